"""From a picture of any kind to what the network takes: the one path that all of fer-deploy uses.

In this order:

1. Header: the format is found from the content, never from the file's name. More than ``MAX_PIXELS`` pixels are
   refused before anything is decoded. Of an animation, the first frame counts.
2. Decoding. A JPEG is decoded straight to its luma channel and, where its shorter side is at least twice
   ``DRAFT_SIDE``, by its own codec to a half, a quarter or an eighth of its size, never below ``DRAFT_SIDE``.
3. The EXIF orientation is applied.
4. To gray, 8 bits, ITU-R 601 luma (0.299 R + 0.587 G + 0.114 B). 16-bit gray is scaled by 255 / 65535. What is
   transparent lies on mid-gray (128). Pixels of 32-bit integers or floats have no defined range and are refused.
5. The largest square in the middle is cut out (an odd pixel is left out at the right or the bottom).
6. Resized to 48x48 by a bicubic filter whose support grows with the reduction (so it does not alias).

A gray 48x48 picture therefore comes through bit for bit.

A photo to look for faces in goes the same way (``decode_photo``) up to step 3, and comes out in colour instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from io import BytesIO
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import ImageError, one_line
from fer_deploy.images.file_kinds import open_regular
from fer_deploy.labels import IMAGE_SIZE, INPUT_SHAPE

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS: Final = 178_956_970
"""Twice ``PIL.Image.MAX_IMAGE_PIXELS``, which is where Pillow itself refuses."""
DRAFT_SIDE: Final = 4 * IMAGE_SIZE
PHOTO_SIDE: Final = 2560
MATTE: Final = 128
_BIG: Final = 16_000_000
_one_big = threading.Lock()  # big pictures are decoded one at a time, so that threads don't multiply their memory

# Only formats with a signature, and no EPS: Pillow hands that to Ghostscript, a program that runs what it reads.
_COMMON: Final = ("JPEG", "PNG", "BMP", "GIF", "PPM")
_RARE: Final = ("WEBP", "TIFF", "JPEG2000", "AVIF", "ICO", "DIB")
_TURNS: Final = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"} | {
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_ZIP: Final = b"PK\x03\x04"
_HEIC: Final = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypheim", b"ftypheis", b"ftypmif1", b"ftypmsf1")
_ORIENTATION: Final = 0x0112
_ORIENTED: Final = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
"""Where Pillow keeps what can hold an orientation, in its ``info`` of a PNG or a JPEG."""
_CHANNELS: Final = ((), (1,), (3,), (4,))


def decode(source: str | PathLike[str] | bytes) -> NDArray[np.uint8]:
    """Decodes a picture as this module's text describes.

    Args:
        source: A path, or the encoded picture itself as bytes.

    Returns:
        uint8, shape (48, 48, 1), gray, 0..255.

    Raises:
        ImageError: It cannot be read; the text is the reason in a few words, without the path.
    """
    pixels: NDArray[np.uint8] = _read(source)
    return pixels


def from_array(pixels: Any) -> NDArray[np.uint8]:
    """Brings an already decoded picture into the same form; one of 48x48 gray comes back as it is.

    Args:
        pixels: uint8, shape (H, W), (H, W, 1), (H, W, 3) as RGB or (H, W, 4) as RGBA, 0..255.

    Returns:
        uint8, shape (48, 48, 1), gray, 0..255.

    Raises:
        ImageError: It is no such array.
    """
    array = _checked(pixels)
    if array.shape == (IMAGE_SIZE, IMAGE_SIZE):
        return array[:, :, np.newaxis]
    from PIL import Image

    return _to_input(Image.fromarray(np.ascontiguousarray(array)))


def _checked(pixels: Any) -> NDArray[np.uint8]:
    """Gives a picture's array without a single channel's axis."""
    array = np.asarray(pixels)
    shape = array.shape
    if array.dtype != np.uint8 or not array.size or len(shape) not in (2, 3) or shape[2:] not in _CHANNELS:
        raise ImageError(f"an array of {array.dtype} {shape}; expected uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    return array[:, :, 0] if shape[2:] == (1,) else array


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A picture to look for faces in.

    Args:
        pixels: uint8 (H, W, 3), RGB, upright; what is transparent lies on mid-gray.
        scale: How many pixels of the file's picture one of these is wide: 2 for a JPEG decoded to half its size.
    """

    pixels: NDArray[np.uint8]
    scale: float = 1.0


Whole = Callable[[int, int], bool]
"""Tells by a picture's two sides whether it is a face as a whole, and no photo to look for faces in."""


def decode_photo(source: str | PathLike[str] | bytes, is_face: Whole) -> NDArray[np.uint8] | Photo:
    """Decodes a picture in colour, unless it is a face as a whole; then this is ``decode``.

    Args:
        source: A path, or the encoded picture itself as bytes.
        is_face: Asked once the file's header is read.

    Returns:
        What ``decode`` returns, or a photo. A JPEG whose longer side is at least twice ``PHOTO_SIDE`` is decoded by
        its own codec to a half, a quarter or an eighth of its size, never below ``PHOTO_SIDE``.

    Raises:
        ImageError: As ``decode``.
    """
    found: NDArray[np.uint8] | Photo = _read(source, is_face)
    return found


def photo_from_array(pixels: Any, is_face: Whole) -> NDArray[np.uint8] | Photo:
    """Does with an already decoded picture what ``decode_photo`` does; see ``from_array``."""
    if np.ndim(pixels) not in (2, 3) or is_face(*np.shape(pixels)[1::-1]):
        return from_array(pixels)
    from PIL import Image

    return Photo(np.asarray(_to_colour(Image.fromarray(np.ascontiguousarray(_checked(pixels))))))


def _read(source: str | PathLike[str] | bytes, is_face: Whole | None = None) -> Any:
    if isinstance(source, bytes):
        if not source:
            raise ImageError("empty file")
        return _decode(BytesIO(source), is_face)
    with open_regular(fspath(source)) as file:
        return _decode(file, is_face)


def _decode(file: BinaryIO, is_face: Whole | None = None) -> Any:  # uint8 (48, 48, 1), or a Photo
    """Runs Pillow over a file; whatever a codec raises on broken data (it can be anything) is one ImageError.

    Returns:
        What the network takes, or a ``Photo`` where ``is_face`` says that the picture is none.
    """
    try:
        image = identify(file)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError(f"too large: {width}x{height} pixels, the limit is {MAX_PIXELS}")
        whole = is_face is None or is_face(width, height)
        if whole:
            image.draft("L", (DRAFT_SIDE, DRAFT_SIDE))
        elif image.format == "JPEG":
            share = min(1.0, PHOTO_SIDE / max(width, height))
            image.draft(None, (max(1, int(width * share)), max(1, int(height * share))))
        with _one_big if image.width * image.height > _BIG else nullcontext():
            image.load()
            if whole:
                return _to_input(_upright(image))
            return Photo(np.asarray(_to_colour(_upright(image))), width / image.width)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(_why_undecodable(error)) from error


def identify(file: BinaryIO) -> Image.Image:
    """Opens a picture by its content, without decoding it yet.

    Raises:
        ImageError: It is a zip archive, or a HEIC picture for which pillow-heif is missing.
        PIL.UnidentifiedImageError: It is no picture of a known format.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file, formats=_COMMON)
    except UnidentifiedImageError:  # asked for separately, since the rare formats' plugins take long to import
        file.seek(0)
        start = file.read(12)
        if start.startswith(_ZIP):
            raise ImageError("a zip archive, which is opened only under a name that ends in .zip") from None
        try:
            return Image.open(file, formats=_RARE)
        except UnidentifiedImageError:  # only now, since an AVIF may begin as a HEIC does
            if start[4:] not in _HEIC:
                raise
            if not _knows_heic():
                raise ImageError("a HEIC picture, which needs pillow-heif: pip install 'fer-deploy[heic]'") from None
            return Image.open(file, formats=("HEIF",))


def _knows_heic() -> bool:
    """Tells Pillow of HEIC where its plugin is installed."""
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
        return True
    return False


def _upright(image: Image.Image) -> Image.Image:
    """Applies the EXIF orientation; a block that cannot be parsed counts as none, as in every viewer."""
    if image.format in ("PNG", "JPEG") and image.info.keys().isdisjoint(_ORIENTED):
        return image  # asking for an EXIF block that is not there takes a fifth of a small PNG's time
    from PIL import Image

    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow's parser raises nearly anything on broken blocks, and the pixels are sound
        return image
    return image.transpose(Image.Transpose[turn]) if turn else image


def _to_input(image: Image.Image) -> NDArray[np.uint8]:
    from PIL import Image

    gray = _to_gray(image)
    side = min(gray.size)
    if gray.size != (side, side):
        left, top = (gray.width - side) // 2, (gray.height - side) // 2
        gray = gray.crop((left, top, left + side, top + side))
    if side != IMAGE_SIZE:
        gray = gray.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    pixels = np.frombuffer(gray.tobytes(), np.uint8)  # half the time of np.array(gray)
    return pixels.reshape(INPUT_SHAPE).copy()  # (48, 48, 1), writable


def _to_gray(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        deep = np.asarray(image).astype(np.uint32)  # 65535 * 255 still fits
        return Image.fromarray(((deep * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ImageError("pixels of 32 bits, whose range is not defined; convert it to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.composite(image.convert("L"), Image.new("L", image.size, MATTE), image.getchannel("A"))
    if image.mode == "L":
        return image
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGB").convert("L")


def _to_colour(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode[0] in "IF":  # 16 bits, or what is refused
        return _to_gray(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        matte = Image.new("RGB", image.size, (MATTE, MATTE, MATTE))
        return Image.composite(image.convert("RGB"), matte, image.getchannel("A"))
    return image.convert("RGB")


def _why_undecodable(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: more than {MAX_PIXELS} pixels"
    text = one_line(error, 120)
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "truncated image"
    return f"damaged image ({type(error).__name__}: {text})" if text else f"damaged image ({type(error).__name__})"
