from __future__ import annotations

import os
import socket
import struct
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fer_deploy.errors import ImageError
from fer_deploy.images.decode import MATTE, decode, from_array

FACE = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (48, 48, 3), dtype=np.uint8)
LUMA = np.asarray(Image.fromarray(COLOURS).convert("L"))


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def quadrants(width: int = 96, height: int = 96) -> Image.Image:
    """Four flat quarters: 20 top left, 90 top right, 160 bottom left, 230 bottom right."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[: height // 2, : width // 2], pixels[: height // 2, width // 2 :] = 20, 90
    pixels[height // 2 :, : width // 2], pixels[height // 2 :, width // 2 :] = 160, 230
    return Image.fromarray(pixels)


def corners(decoded: np.ndarray) -> list[int]:
    """The middles of the four quarters, top left, top right, bottom left, bottom right."""
    return [int(decoded[y, x, 0]) for y in (12, 36) for x in (12, 36)]


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "PPM", "TIFF", "ICO"])
def test_48x48_gray_comes_through_bit_for_bit(format: str) -> None:
    options = {"sizes": [(48, 48)]} if format == "ICO" else {}
    decoded = decode(encode(Image.fromarray(FACE), format, **options))
    assert decoded.dtype == np.uint8
    assert decoded.shape == (48, 48, 1)
    np.testing.assert_array_equal(decoded[:, :, 0], FACE)


def test_lossless_webp_and_jpeg_as_pillow_decodes_them() -> None:
    np.testing.assert_array_equal(decode(encode(Image.fromarray(COLOURS), "WEBP", lossless=True))[:, :, 0], LUMA)
    jpeg = encode(Image.fromarray(FACE), "JPEG")
    np.testing.assert_array_equal(decode(jpeg)[:, :, 0], np.asarray(Image.open(BytesIO(jpeg))))


def test_path_and_bytes_and_array_agree(tmp_path: Path) -> None:
    path = tmp_path / "a picture without suffix"
    path.write_bytes(encode(Image.fromarray(COLOURS)))
    for decoded in (decode(path), decode(str(path)), decode(path.read_bytes()), from_array(COLOURS)):
        np.testing.assert_array_equal(decoded[:, :, 0], LUMA)


def test_a_file_too_large_to_be_read_at_once(tmp_path: Path) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (1100, 1000), dtype=np.uint8)
    content = encode(Image.fromarray(noise), "BMP")
    assert len(content) > 1 << 20
    path = tmp_path / "large.bmp"
    path.write_bytes(content)
    np.testing.assert_array_equal(decode(path), decode(content))


@pytest.mark.parametrize("keep_rgb", [False, True])
def test_a_colour_jpeg_gives_its_luma(keep_rgb: bool) -> None:
    flat = Image.new("RGB", (64, 64), (200, 30, 90))
    expected = round(0.299 * 200 + 0.587 * 30 + 0.114 * 90)
    decoded = decode(encode(flat, "JPEG", quality=95, keep_rgb=keep_rgb))
    assert np.abs(decoded.astype(int) - expected).max() <= 2


def test_palette_cmyk_and_bilevel() -> None:
    palette = Image.fromarray(COLOURS).quantize(64)
    np.testing.assert_array_equal(decode(encode(palette))[:, :, 0], np.asarray(palette.convert("RGB").convert("L")))
    cmyk = decode(encode(Image.new("CMYK", (60, 60), (0, 0, 0, 0)), "JPEG"))
    assert cmyk.min() >= 253
    bilevel = decode(encode(Image.fromarray(FACE > 127)))
    np.testing.assert_array_equal(bilevel[:, :, 0], np.where(FACE > 127, 255, 0))


def test_16_bits_are_scaled() -> None:
    deep = FACE.astype(np.uint16) * 257
    for format in ("PNG", "TIFF", "PPM"):
        np.testing.assert_array_equal(decode(encode(Image.fromarray(deep), format))[:, :, 0], FACE)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_pixels_are_refused(mode: str) -> None:
    with pytest.raises(ImageError, match="32 bits"):
        decode(encode(Image.fromarray(FACE).convert(mode), "TIFF"))


def test_transparent_parts_lie_on_mid_gray() -> None:
    alpha = np.zeros((48, 48), np.uint8)
    alpha[:, 24:] = 255
    expected = np.where(alpha == 255, FACE, MATTE)
    layered = Image.merge("LA", [Image.fromarray(FACE), Image.fromarray(alpha)])
    for image in (layered, layered.convert("RGBA")):
        np.testing.assert_array_equal(decode(encode(image))[:, :, 0], expected)
    palette = Image.new("P", (48, 48), 1)
    palette.putpalette([0, 0, 0, 250, 250, 250])
    assert (decode(encode(palette, transparency=1)) == MATTE).all()
    assert (decode(encode(palette)) == 250).all()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [20, 90, 160, 230]),
        (2, [90, 20, 230, 160]),
        (3, [230, 160, 90, 20]),
        (4, [160, 230, 20, 90]),
        (5, [20, 160, 90, 230]),
        (6, [160, 20, 230, 90]),
        (7, [230, 90, 160, 20]),
        (8, [90, 230, 20, 160]),
    ],
)
def test_exif_orientation(format: str, orientation: int, expected: list[int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(encode(quadrants(), format, exif=exif))
    assert np.abs(np.subtract(corners(decoded), expected)).max() <= 6


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_an_orientation_in_xmp(format: str) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="3"/></x:xmpmeta>'
    if format == "PNG":
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        content = encode(quadrants(), format, pnginfo=text)
    else:
        content = encode(quadrants(), format, xmp=xmp)
    np.testing.assert_allclose(corners(decode(content)), [230, 160, 90, 20], atol=3)


def test_a_broken_exif_block_does_not_cost_the_picture() -> None:
    jpeg = encode(quadrants(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f\x01\x02")
    assert np.abs(np.subtract(corners(decode(jpeg)), [20, 90, 160, 230])).max() <= 6


def test_the_middle_square_is_taken() -> None:
    wide = np.zeros((48, 148), np.uint8)
    wide[:, 50:98] = FACE
    np.testing.assert_array_equal(decode(encode(Image.fromarray(wide)))[:, :, 0], FACE)
    np.testing.assert_array_equal(decode(encode(Image.fromarray(wide.T)))[:, :, 0], FACE.T)


def test_reduction_does_not_alias() -> None:
    stripes = np.zeros((960, 960), np.uint8)
    stripes[:, ::2] = 255
    decoded = decode(encode(Image.fromarray(stripes)))
    assert decoded.min() >= 126
    assert decoded.max() <= 129


def test_a_large_jpeg_is_reduced_by_its_codec_to_the_same_picture() -> None:
    large = quadrants(4000, 4000)
    by_jpeg, by_png = decode(encode(large, "JPEG", quality=95)), decode(encode(large))
    assert np.abs(by_jpeg.astype(int) - by_png).max() <= 6


@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (20000, 1), (47, 49), (3, 2)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    decoded = decode(encode(Image.new("L", size, 77)))
    assert decoded.shape == (48, 48, 1)
    assert (decoded == 77).all()


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("L", (48, 48), value) for value in (10, 200)]
    animation = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode(animation) == 10).all()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP"])
def test_truncated_at_every_tenth(format: str) -> None:
    whole = encode(Image.fromarray(np.kron(FACE, np.ones((4, 4), np.uint8))), format)
    for tenth in range(10):
        with pytest.raises(ImageError):
            decode(whole[: len(whole) * tenth // 10])


def test_not_an_image(tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("this is no picture\n")
    with pytest.raises(ImageError, match="not an image"):
        decode(text)
    with pytest.raises(ImageError, match="not an image"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 48\n")
    with pytest.raises(ImageError, match="empty file"):
        decode(b"")


def test_a_decompression_bomb_is_refused_from_its_header() -> None:
    for width, height in ((50_000, 50_000), (13_400, 13_400)):
        header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
        bomb = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 1 << 30) + b"IDAT"
        with pytest.raises(ImageError, match="too large"):
            decode(bomb)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's path is limited to 108 characters
        listener.bind("socket.png")
        os.chdir(here)
        for name, reason in [
            ("empty.png", "empty file"),
            ("broken.png", "broken link"),
            ("loop.png", "leads back to itself"),
            ("pipe.png", "named pipe"),
            ("socket.png", "socket"),
            ("gone.png", "no such file"),
            (".", "a folder"),
            ("nul\0.png", "not a path"),
            ("x" * 300, "file name too long"),
        ]:
            with pytest.raises(ImageError, match=reason):
                decode(tmp_path / name)
    with pytest.raises(ImageError, match="a device"):
        decode("/dev/zero")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encode(Image.fromarray(FACE)))
    path.chmod(0)
    with pytest.raises(ImageError, match="permission denied"):
        decode(path)


def test_arrays() -> None:
    assert from_array(FACE).base is FACE
    np.testing.assert_array_equal(from_array(FACE[:, :, None])[:, :, 0], FACE)
    opaque = np.dstack([COLOURS, np.full((48, 48), 255, np.uint8)])
    np.testing.assert_array_equal(from_array(opaque)[:, :, 0], LUMA)
    np.testing.assert_array_equal(from_array(COLOURS[::-1, ::-1])[:, :, 0], LUMA[::-1, ::-1])
    for wrong in (FACE.astype(np.float32), FACE[:0], FACE[0], np.zeros((48, 48, 2), np.uint8), "text"):
        with pytest.raises(ImageError, match="expected uint8"):
            from_array(wrong)


SEEDS = [encode(Image.fromarray(FACE), format) for format in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=8), st.data())
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_decode_or_raise_image_error(
    seed: bytes, flips: list[tuple[int, int]], data: st.DataObject
) -> None:
    damaged = bytearray(seed)
    for position, value in flips:
        damaged[position % len(damaged)] = value
    cut = data.draw(st.integers(0, len(damaged)))
    with suppress(ImageError):
        assert decode(bytes(damaged[:cut])).shape == (48, 48, 1)
