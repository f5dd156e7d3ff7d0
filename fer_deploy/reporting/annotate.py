"""Copies of pictures with what was found drawn in: a box and a label for each face."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_deploy.errors import ImageError
from fer_deploy.inference.prediction import Prediction
from fer_deploy.reporting.copies import CopyNames
from fer_deploy.reporting.ordered_pool import Writers
from fer_deploy.reporting.thumbnails import read

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

COLOURS: Final = {
    "angry": (214, 60, 50),
    "disgust": (122, 130, 24),
    "fear": (132, 84, 190),
    "happy": (240, 170, 30),
    "sad": (50, 115, 195),
    "surprise": (200, 72, 134),
    "neutral": (110, 118, 130),
}
_JPEG: Final = (".jpg", ".jpeg")
_JPEG_QUALITY: Final = 92
_SMALLEST_TEXT: Final = 10


def annotate(image: Image.Image, found: Sequence[Prediction]) -> Image.Image:
    """Draws faces into a copy of a picture.

    Args:
        image: Upright, RGB.
        found: Its faces; one without a box (a crop) gets its label on a strip below the picture.

    Returns:
        RGB; of the same size unless there is a strip.
    """
    from PIL import ImageDraw

    image = image.copy()
    draw = ImageDraw.Draw(image)
    line = max(2, round(max(image.size) / 400))
    for each in found:
        if each.box is not None and each.emotion is not None:
            x, y, width, height = map(round, each.box)  # as the table has it, so that a resumed run draws the same
            colour = COLOURS[each.emotion]
            draw.rectangle((x, y, x + max(width, 1), y + max(height, 1)), outline=colour, width=line)
            _label(draw, each, (x, y, width, height), image.size)
    crops = [each for each in found if each.box is None and each.emotion is not None]
    return _with_strip(image, crops[0]) if crops else image


def _text(each: Prediction) -> str:
    return f"{each.emotion} {100 * (each.confidence or 0):.0f} %"


def _label(
    draw: ImageDraw.ImageDraw, each: Prediction, box: tuple[float, float, float, float], size: tuple[int, int]
) -> None:
    """Writes above the box, or in it where there is no room above."""
    from PIL import ImageFont

    x, y, width, _ = box
    font = ImageFont.load_default(min(max(_SMALLEST_TEXT, width / 6), max(_SMALLEST_TEXT, max(size) / 30)))
    left, top, right, bottom = draw.textbbox((0, 0), _text(each), font=font)
    pad = max(2, (bottom - top) / 5)
    wide, high = right - left + 2 * pad, bottom - top + 2 * pad
    x = max(0, min(x, size[0] - wide))
    y = y - high if y >= high else max(0, y)
    colour = COLOURS[str(each.emotion)]
    draw.rectangle((x, y, x + wide, y + high), fill=colour)
    draw.text((x + pad - left, y + pad - top), _text(each), font=font, fill=_on(colour))


def _with_strip(image: Image.Image, each: Prediction) -> Image.Image:
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(max(_SMALLEST_TEXT, image.width / 12))
    left, top, right, bottom = font.getbbox(_text(each))
    pad = max(2, round((bottom - top) / 4))
    width, high = max(image.width, round(right - left) + 2 * pad), round(bottom - top) + 2 * pad
    colour = COLOURS[str(each.emotion)]
    whole = Image.new("RGB", (width, image.height + high), colour)
    whole.paste(image, ((width - image.width) // 2, 0))
    draw = ImageDraw.Draw(whole)
    draw.text(((width - right + left) / 2 - left, image.height + pad - top), _text(each), font=font, fill=_on(colour))
    return whole


def _on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Gives black or white, whichever is easier to read on a colour."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else (255, 255, 255)


class Annotated(Writers):
    """Writes an annotated copy of every picture in which a face was found, beside the run.

    A JPEG stays one; all others become PNG. Names are kept as ``Names`` tells. Videos are left out.

    Args:
        folder: Where they go; made if it is not there.
        inputs: What the run was given.
    """

    def __init__(self, folder: str | Path, inputs: Sequence[str]) -> None:
        super().__init__(window=16)
        self._names = CopyNames(folder, inputs)
        self._group: list[Prediction] = []

    def write(self, prediction: Prediction) -> None:
        """Takes a row; a picture is drawn when the next one's rows begin."""
        if prediction.emotion is None or prediction.frame is not None:
            return
        if self._group and (self._group[0].path != prediction.path or not prediction.face):
            self.finish()
        self._group.append(prediction)

    def finish(self) -> None:
        """Hands over the picture whose rows came last."""
        group, self._group = self._group, []
        if group:
            self.hand_over(partial(self._draw, group))

    def _draw(self, group: list[Prediction]) -> bool:
        try:
            image = annotate(read(group[0].path)[0], group)
        except ImageError:
            return False
        place = self._names.place(group[0].path)
        suffix = place.suffix.lower()
        if suffix not in (*_JPEG, ".png"):
            place = place.with_name(place.name + ".png")
        if suffix in _JPEG:
            self._names.put(place, lambda target: image.save(target, "JPEG", quality=_JPEG_QUALITY))
        else:
            self._names.put(place, lambda target: image.save(target, "PNG"))
        return True
