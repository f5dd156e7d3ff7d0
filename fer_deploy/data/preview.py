"""Draws a grid of pictures, a row per class."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fer_deploy.data.fer2013 import Partition
from fer_deploy.errors import UsageError
from fer_deploy.labels import IMAGE_SIZE, LABELS
from fer_deploy.system.files import written_whole

SUFFIXES: Final = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
MAX_PER_CLASS: Final = 100
_CELL: Final = 2 * IMAGE_SIZE
_GAP: Final = 4
_MARGIN: Final = 12
_LABEL_WIDTH: Final = 120
_TITLE_HEIGHT: Final = 40
_PAPER: Final = (255, 255, 255)
_INK: Final = (32, 32, 32)
_FAINT: Final = (128, 128, 128)
_EMPTY: Final = (236, 236, 236)


def draw_preview(partition: Partition, title: str, *, per_class: int = 10, seed: int = 0) -> Image.Image:
    """Draws pictures of each class, chosen at random.

    Args:
        partition: Where the pictures come from.
        title: Stands above the grid.
        per_class: Pictures in a row, 1 to 100; a class that has fewer leaves the rest of its row gray.
        seed: The same seed gives the same pictures.

    Returns:
        An RGB picture.

    Raises:
        UsageError: ``per_class`` is out of range.
    """
    if not 1 <= per_class <= MAX_PER_CLASS:
        raise UsageError(f"The number of pictures per class is {per_class}, expected 1 to {MAX_PER_CLASS}")
    step = _CELL + _GAP
    size = (_LABEL_WIDTH + per_class * step + _MARGIN, _TITLE_HEIGHT + len(LABELS) * step + _MARGIN)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), title, _INK, ImageFont.load_default(18))
    rng = np.random.default_rng(seed)
    for row, label in enumerate(LABELS):
        members = np.flatnonzero(partition.labels == row)
        top = _TITLE_HEIGHT + row * step
        draw.text((_MARGIN, top + _CELL // 2 - 18), label, _INK, ImageFont.load_default(18))
        draw.text((_MARGIN, top + _CELL // 2 + 4), f"{len(members):,}", _FAINT, ImageFont.load_default(14))
        chosen = rng.choice(members, min(per_class, len(members)), replace=False)
        for column in range(per_class):
            left = _LABEL_WIDTH + column * step
            if column < len(chosen):
                sheet.paste(_enlarged(partition.images[chosen[column]]), (left, top))
            else:
                draw.rectangle((left, top, left + _CELL - 1, top + _CELL - 1), _EMPTY)
    return sheet


def check_output(output: Path) -> str:
    """Gives the picture format that a file name asks for.

    Raises:
        UsageError: It is none that can be written.
    """
    data_format = SUFFIXES.get(output.suffix.lower())
    if data_format is None:
        raise UsageError(f"{output} does not name a picture: its name must end in {', '.join(SUFFIXES)}")
    return data_format


def save_image(image: Image.Image, output: Path) -> None:
    """Writes a picture, whole or not at all; what is there is replaced.

    Raises:
        UsageError: The file name is not one of a picture.
        OutputError: It cannot be written.
    """
    buffer = io.BytesIO()
    image.save(buffer, check_output(output))
    with written_whole(output) as partial:
        partial.write_bytes(buffer.getvalue())


def _enlarged(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(image).resize((_CELL, _CELL), Image.Resampling.NEAREST)
