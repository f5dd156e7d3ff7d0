"""Photos of every kind, decoded in colour for the search of faces; whole faces come out as ``decode`` gives them."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from fer_deploy.errors import ImageError
from fer_deploy.images.decode import PHOTO_SIDE, Photo, decode, decode_photo, from_array, photo_from_array

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 210)


def never(width: int, height: int) -> bool:
    return False


def encoded(image: Image.Image, variant: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, variant, **options)
    return file.getvalue()


def corners(size: tuple[int, int] = (60, 40)) -> Image.Image:
    """Red at the upper left, green at the upper right, blue below."""
    image = Image.new("RGB", size, BLUE)
    image.paste(RED, (0, 0, size[0] // 2, size[1] // 2))
    image.paste(GREEN, (size[0] // 2, 0, size[0], size[1] // 2))
    return image


def photo(content: bytes) -> Photo:
    found = decode_photo(content, never)
    assert isinstance(found, Photo)
    return found


def assert_corners(found: Photo, tolerance: int = 12) -> None:
    height, width = found.pixels.shape[:2]
    for (row, column), colour in {(4, 4): RED, (4, width - 5): GREEN, (height - 5, 4): BLUE}.items():
        assert found.pixels[row, column].astype(int) == pytest.approx(np.array(colour), abs=tolerance)


@pytest.mark.parametrize("variant", ["PNG", "BMP", "JPEG", "WEBP", "TIFF", "PPM"])
def test_colours_come_in_their_order(variant: str) -> None:
    options = {"quality": 95, "subsampling": 0} if variant == "JPEG" else {"quality": 95} if variant == "WEBP" else {}
    found = photo(encoded(corners(), variant, **options))
    assert (found.pixels.shape, found.pixels.dtype, found.scale) == ((40, 60, 3), np.uint8, 1)
    assert_corners(found)


def test_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: to be turned clockwise
    content = encoded(corners().transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, subsampling=0, exif=exif)
    found = photo(content)
    assert found.pixels.shape == (40, 60, 3)
    assert_corners(found)


def test_cmyk_and_palette() -> None:
    assert_corners(photo(encoded(corners().convert("CMYK"), "TIFF")), 3)
    assert_corners(photo(encoded(corners().quantize(4), "PNG")), 3)


def test_gray_of_8_and_16_bits_becomes_colour() -> None:
    gray = np.tile(np.linspace(0, 65535, 60).astype(np.uint16), (40, 1))
    deep, shallow = (photo(encoded(Image.fromarray(array), "PNG")) for array in (gray, (gray // 257).astype(np.uint8)))
    assert deep.pixels.shape == shallow.pixels.shape == (40, 60, 3)
    assert np.abs(deep.pixels.astype(int) - shallow.pixels).max() <= 1
    assert np.ptp(deep.pixels, axis=2).max() == 0


def test_what_is_transparent_lies_on_mid_gray() -> None:
    image = corners().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    assert np.unique(photo(encoded(image, "PNG")).pixels).tolist() == [128]
    assert np.unique(photo_from_array(np.asarray(image), never).pixels).tolist() == [128]  # type: ignore[union-attr]


@pytest.mark.parametrize("variant", ["GIF", "WEBP"])
def test_of_an_animation_the_first_frame_counts(variant: str) -> None:
    options = {"lossless": True} if variant == "WEBP" else {}
    frames = [Image.new("RGB", (60, 40), colour) for colour in (GREEN, BLUE)]
    content = encoded(corners(), variant, save_all=True, append_images=frames, duration=50, **options)
    assert_corners(photo(content))


def test_a_huge_jpeg_is_reduced_by_its_codec_and_the_scale_told() -> None:
    found = photo(encoded(corners((2 * PHOTO_SIDE, 600)), "JPEG", quality=90))
    assert (found.pixels.shape, found.scale) == ((300, PHOTO_SIDE, 3), 2)
    assert_corners(found)
    assert photo(encoded(corners((2 * PHOTO_SIDE - 2, 600)), "JPEG")).scale == 1


def test_a_face_as_a_whole_is_decoded_as_ever(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []
    path = tmp_path / "face.jpg"
    path.write_bytes(encoded(corners((500, 700)), "JPEG"))
    found = decode_photo(path, lambda *size: bool(asked.append(size)) or True)
    assert np.array_equal(found, decode(path))  # type: ignore[arg-type]
    assert asked == [(500, 700)]
    array = np.asarray(corners())
    assert np.array_equal(photo_from_array(array, lambda w, h: (w, h) == (60, 40)), from_array(array))  # type: ignore[arg-type]


def test_heic(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        import pillow_heif
    except ImportError:
        content = b"\x00\x00\x00\x18ftypheic" + bytes(100)
        with pytest.raises(
            ImageError, match=r"a HEIC picture, which needs pillow-heif: pip install 'fer-deploy\[heic\]'"
        ):
            photo(content)
        return
    file = BytesIO()
    pillow_heif.from_pillow(corners((64, 64))).save(file, quality=95)
    assert_corners(photo(file.getvalue()), 25)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_an_avif_that_begins_as_a_heic_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    content = encoded(corners((64, 64)), "AVIF", quality=95)
    assert content[4:12] == b"ftypavif"
    assert_corners(photo(content.replace(b"ftypavif", b"ftypmif1", 1)), 25)
    with pytest.raises(ImageError, match="a HEIC picture"):
        photo(b"\x00\x00\x00\x18ftypmif1" + bytes(100))


def test_what_is_broken_is_an_image_error() -> None:
    good = encoded(corners(), "PNG")
    for content in (b"", b"no picture", good[:60]):
        with pytest.raises(ImageError):
            decode_photo(content, never)
    for array in (np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3)), np.zeros(4, np.uint8)):
        with pytest.raises(ImageError, match="expected uint8"):
            photo_from_array(array, never)
