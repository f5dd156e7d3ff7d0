"""Cuts a found face out of its picture the way FER-2013's pictures are cut, which are all that the network knows.

Where the cut lies was chosen by measurement on faces of FER-2013's PublicTest that were pasted into backgrounds,
found again and cut out in many ways: ``python benchmarks/face_crop.py --data fer2013.zip`` repeats it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.faces.face import Face
from fer_deploy.labels import IMAGE_SIZE

if TYPE_CHECKING:
    from PIL import Image

_LEFT_EYE, _RIGHT_EYE = 0, 1
_ENOUGH: Final = 4 * IMAGE_SIZE  # a side that is reduced first, so that turning it costs the same in any picture
_MOST_TURNED: Final = 60.0  # degrees; beyond it the landmarks are wrong more often than the head is turned


@dataclass(frozen=True, slots=True)
class CropSettings:
    """Where a face is cut out.

    Args:
        margin: Side of the square, in heights of the box.
        down: How far the square's middle lies below the box's, in heights of the box.
        turn: How much of the eyes' slope is turned back, 0..1.
    """

    margin: float = 0.97
    down: float = 0.03
    turn: float = 1.0


CROP_SETTINGS: Final = CropSettings()


def crop_face(gray: NDArray[np.uint8], face: Face, cut: CropSettings = CROP_SETTINGS) -> NDArray[np.uint8]:
    """Cuts a face out.

    Args:
        gray: The picture, uint8 (H, W).
        face: Where; beyond the picture's edge its outermost pixels go on.
        cut: How much of it.

    Returns:
        uint8, shape (48, 48, 1).
    """
    from PIL import Image

    x, y, width, height = face.box
    side = max(cut.margin * height, 1.0)
    slope = cut.turn * eyes_slope(face)
    down = cut.down * height
    middle_x = x + width / 2 - down * math.sin(slope)
    middle_y = y + height / 2 + down * math.cos(slope)
    image, left, upper, scale = _around(gray, middle_x, middle_y, side)
    pixels = max(IMAGE_SIZE, round(side / scale))  # of the turned square; a small face is enlarged at once
    step = side / scale / pixels
    along_x, along_y = math.cos(slope) * step, math.sin(slope) * step
    start_x = (middle_x - left) / scale - (along_x - along_y) * pixels / 2
    start_y = (middle_y - upper) / scale - (along_y + along_x) * pixels / 2
    turned = image.transform(
        (pixels, pixels),
        Image.Transform.AFFINE,
        (along_x, -along_y, start_x, along_y, along_x, start_y),
        Image.Resampling.BICUBIC,
    )
    if pixels != IMAGE_SIZE:
        turned = turned.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return np.array(turned, np.uint8)[:, :, np.newaxis]


def eyes_slope(face: Face) -> float:
    """Gives the angle of the line through the eyes in radians, clockwise; 0 where it is not to be trusted."""
    if face.landmarks is None:
        return 0.0
    dx, dy = (face.landmarks[_RIGHT_EYE] - face.landmarks[_LEFT_EYE]).tolist()
    slope = math.atan2(dy, dx)
    return slope if abs(slope) <= math.radians(_MOST_TURNED) else 0.0


def _around(gray: NDArray[np.uint8], x: float, y: float, side: float) -> tuple[Image.Image, int, int, int]:
    """Takes what a turned square needs, reduced by a whole number; and its left, upper edge and that number."""
    from PIL import Image

    reach = side * math.sqrt(0.5) + 3
    left, upper = math.floor(x - reach), math.floor(y - reach)
    columns = np.arange(left, math.ceil(x + reach)).clip(0, gray.shape[1] - 1)
    rows = np.arange(upper, math.ceil(y + reach)).clip(0, gray.shape[0] - 1)
    image = Image.fromarray(gray[rows][:, columns])
    scale = max(1, int(side // _ENOUGH))
    return (image.reduce(scale) if scale > 1 else image), left, upper, scale
