"""YuNet (Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20, 2023).

A small network without anchors: at each place of three grids, of 8, 16 and 32 pixels, a score that a face lies there,
one that the box fits, the box, and five landmarks. Its ONNX file (MIT, 230 kB) is published by OpenCV's model zoo; it
is part of no package, so it is fetched on demand (``fer-deploy fetch yunet``) or given by the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import ModelError
from fer_deploy.faces.face import Candidates, Floats
from fer_deploy.faces.network import LATENCY, FaceNetwork, as_input
from fer_deploy.faces.sight import YUNET

_STRIDES: Final = (8, 16, 32)
_VALUES: Final = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
"""What each place of a grid has, and of how many numbers."""


class YuNet(FaceNetwork):
    """The network; see ``FaceNetwork``."""

    name = "yunet"
    file = "yunet.onnx"
    sight = YUNET
    outputs = "12 outputs (cls_, obj_, bbox_ and kps_8, _16 and _32)"

    @staticmethod
    def is_one(outputs: Sequence[str]) -> bool:
        """Tells from the names of a file's outputs whether it is one."""
        return sorted(outputs) == sorted(f"{value}_{stride}" for value in _VALUES for stride in _STRIDES)

    def look(self, pictures: NDArray[np.uint8], floor: float, hint: str = LATENCY) -> list[Candidates]:
        """See ``FaceNetwork.look``."""
        n, height, width = pictures.shape[:3]
        found = dict(
            zip(self.network.outputs, self.network.run(as_input(pictures, blue_first=True), hint), strict=True)
        )
        parts: list[list[Candidates]] = [[] for _ in range(n)]
        for stride in _STRIDES:
            columns, places = width // stride, (height // stride) * (width // stride)
            values = [self._grid(found[f"{value}_{stride}"], n, places, size) for value, size in _VALUES.items()]
            for number, (sure, fits, boxes, marks) in enumerate(zip(*values, strict=True)):
                scores = np.sqrt(sure.clip(0, 1) * fits.clip(0, 1))[:, 0]
                parts[number].append(_candidates(scores, boxes, marks, columns, stride, floor))
        return [Candidates.joined(part) for part in parts]

    def _grid(self, found: Floats, n: int, places: int, size: int) -> Floats:
        """Gives an output as (N, places, size): the file says 1 for N, and puts the pictures' places in a row."""
        if found.size != n * places * size or found.shape[-1] != size:
            raise ModelError(f"{self.network.what} gives {found.shape}; YuNet gives {(n, places, size)}")
        return found.reshape(n, places, size)


def _candidates(scores: Floats, boxes: Floats, marks: Floats, columns: int, stride: int, floor: float) -> Candidates:
    """Reads one grid of one picture, places in rows: scores (A,), boxes (A, 4), landmarks (A, 10)."""
    (index,) = np.nonzero(scores >= floor)
    place = np.stack([index % columns, index // columns], axis=-1).astype(np.float32)  # (N, 2): column, row
    with np.errstate(over="ignore", invalid="ignore"):  # only in a damaged file; such boxes are left out later
        middles, sizes = (place + boxes[index, :2]) * stride, np.exp(boxes[index, 2:]) * stride
        corners = np.concatenate([middles - sizes / 2, sizes], axis=-1)
    landmarks = (marks[index].reshape(-1, 5, 2) + place[:, np.newaxis]) * stride
    return Candidates(corners.astype(np.float32), scores[index], landmarks.astype(np.float32))
