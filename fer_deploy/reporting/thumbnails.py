"""Pictures as people see them: upright and in colour, read again by the name that a table has for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Final
from zipfile import ZipFile

from fer_deploy.errors import ImageError
from fer_deploy.images.archive import MAX_MEMBER_BYTES, inside_archive, unpack
from fer_deploy.images.decode import MAX_PIXELS, identify
from fer_deploy.images.file_kinds import open_regular
from fer_deploy.inference.prediction import Box

if TYPE_CHECKING:
    from PIL import Image

_MARGIN: Final = 0.35
"""How much wider than a face its thumbnail is, on each side, as a part of the face's longer side."""
_QUALITY: Final = 70


def content(name: str) -> bytes:
    """Reads a picture's file as it lies there, on disk or in an archive.

    Raises:
        ImageError: It is not there any more, or cannot be read.
    """
    if (place := inside_archive(name)) is None:
        with open_regular(name) as file:
            return file.read()
    archive, member = place
    try:
        info = _archive(archive).getinfo(member)
        if info.file_size > MAX_MEMBER_BYTES:
            raise ImageError("too large")
        return unpack(_archive(archive), info)
    except ImageError:
        raise
    except Exception as error:  # as in images.archive: every damage has an exception of its own
        raise ImageError(f"cannot be read from the archive ({type(error).__name__})") from error


@lru_cache(maxsize=4)
def _archive(path: str) -> ZipFile:
    return ZipFile(path)


def read(name: str, shrink: Callable[[int, int], float] | None = None) -> tuple[Image.Image, float]:
    """Reads a picture upright, in RGB; of an animation, the first frame.

    Args:
        name: Its path, or ``archive.zip/member.png``.
        shrink: Tells of a width and height by what they may be divided; some codecs (JPEG) can do that by 2, 4 or 8.

    Returns:
        The picture, and the size of its side as a part of the full one (1 where nothing was shrunk).

    Raises:
        ImageError: It cannot be read (any more).
    """
    try:
        image = identify(BytesIO(content(name)))
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError("too large")
        if shrink and (factor := shrink(width, height)) >= 2:
            image.draft(None, (int(width / factor), int(height / factor)))
        image.load()
        scale = image.width / width
        return _rgb(_upright(image)), scale
    except ImageError:
        raise
    except Exception as error:  # whatever a codec says of a file that is damaged by now
        raise ImageError(f"{type(error).__name__}: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a block that cannot be parsed counts as none, as in images.decode
        return image


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits
        import numpy as np

        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        matte = Image.new("RGBA", image.size, (128, 128, 128, 255))
        return Image.alpha_composite(matte, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def thumbnails(name: str, boxes: Sequence[Box | None], side: int) -> list[bytes]:
    """Makes small WebP pictures of a picture's faces.

    Args:
        name: See ``read``.
        boxes: A face each; None for the square in the picture's middle, which is what the network sees of a crop.
        side: Their width and height in pixels, where the face has as many.

    Returns:
        WebP files, one per box; none at all if the picture cannot be read any more.
    """
    smallest = min((max(box[2], box[3]) for box in boxes if box), default=None)

    def shrink(width: int, height: int) -> float:
        return (smallest or min(width, height)) / side

    try:
        image, scale = read(name, shrink)
        return [thumbnail(image, box, scale, side) for box in boxes]
    except (ImageError, OSError, ValueError):
        return []


def thumbnail(image: Image.Image, box: Box | None, scale: float, side: int) -> bytes:
    """Makes the small picture of one face.

    Args:
        image: RGB.
        box: See ``thumbnails``, as is ``side``.
        scale: How many pixels of the image one of the box is.
        side: In pixels.

    Returns:
        A WebP file.
    """
    from PIL import ImageOps

    if box is None:
        short = min(side, *image.size)
        crop = ImageOps.fit(image, (short, short))
    else:
        x, y, width, height = (scale * value for value in box)
        length = min(max(width, height, 1) * (1 + 2 * _MARGIN), *image.size)
        left = min(max(x + width / 2 - length / 2, 0), image.width - length)
        top = min(max(y + height / 2 - length / 2, 0), image.height - length)
        crop = image.crop((round(left), round(top), round(left + length), round(top + length)))
        crop.thumbnail((side, side))
    buffer = BytesIO()
    crop.save(buffer, "WEBP", quality=_QUALITY, method=2)
    return buffer.getvalue()
