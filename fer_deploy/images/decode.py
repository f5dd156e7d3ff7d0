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
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from io import BytesIO
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import ImageError
from fer_deploy.images.files import open_regular
from fer_deploy.labels import IMAGE_SIZE, INPUT_SHAPE

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS: Final = 178_956_970
"""Twice ``PIL.Image.MAX_IMAGE_PIXELS``, which is where Pillow itself refuses."""
DRAFT_SIDE: Final = 4 * IMAGE_SIZE
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
    if isinstance(source, bytes):
        if not source:
            raise ImageError("empty file")
        return _decode(BytesIO(source))
    with open_regular(fspath(source)) as file:
        return _decode(file)


def from_array(pixels: Any) -> NDArray[np.uint8]:
    """Brings an already decoded picture into the same form; one of 48x48 gray comes back as it is.

    Args:
        pixels: uint8, shape (H, W), (H, W, 1), (H, W, 3) as RGB or (H, W, 4) as RGBA, 0..255.

    Returns:
        uint8, shape (48, 48, 1), gray, 0..255.

    Raises:
        ImageError: It is no such array.
    """
    array = np.asarray(pixels)
    shape = array.shape
    if array.dtype != np.uint8 or not array.size or len(shape) not in (2, 3) or shape[2:] not in _CHANNELS:
        raise ImageError(f"an array of {array.dtype} {shape}; expected uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    if len(shape) == 3 and shape[2] == 1:
        array = array[:, :, 0]
    if array.shape == (IMAGE_SIZE, IMAGE_SIZE):
        return array[:, :, np.newaxis]
    from PIL import Image

    return _to_input(Image.fromarray(np.ascontiguousarray(array)))


def _decode(file: BinaryIO) -> NDArray[np.uint8]:
    """Runs Pillow over a file; whatever a codec raises on broken data (it can be anything) is one ImageError."""
    try:
        image = _identify(file)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError(f"too large: {width}x{height} pixels, the limit is {MAX_PIXELS}")
        image.draft("L", (DRAFT_SIDE, DRAFT_SIDE))
        with _one_big if image.width * image.height > _BIG else nullcontext():
            image.load()
            return _to_input(_upright(image))
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(_why_undecodable(error)) from error


def _identify(file: BinaryIO) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file, formats=_COMMON)
    except UnidentifiedImageError:  # asked for separately, since the rare formats' plugins take long to import
        file.seek(0)
        if file.read(len(_ZIP)) == _ZIP:
            raise ImageError("a zip archive, which is opened only under a name that ends in .zip") from None
        return Image.open(file, formats=_RARE)


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


def _why_undecodable(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: more than {MAX_PIXELS} pixels"
    text = " ".join(str(error).split())[:120]
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "truncated image"
    return f"damaged image ({type(error).__name__}: {text})" if text else f"damaged image ({type(error).__name__})"
