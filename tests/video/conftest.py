"""Small real videos, encoded here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.backends.base import Backend, Images, Probabilities
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.faces.detector import Detector
from fer_deploy.faces.face import Face

SIZE = (320, 240)
FPS = 10
Encode = Callable[..., Path]


class Squares(Detector):
    """Finds one square that is red and one that is blue."""

    def detect(self, image: Images, hint: str = "") -> list[Face]:
        faces = []
        for channel in (0, 2):
            others = image[..., 1 if channel == 0 else 0].astype(int)
            rows, columns = np.nonzero(image[..., channel].astype(int) - others > 90)
            if len(rows) > 40:
                left, upper = float(columns.min()), float(rows.min())
                width, height = float(np.ptp(columns)) + 1, float(np.ptp(rows)) + 1
                faces.append(Face((left, upper, width, height), 0.9 - channel / 10))
        return faces


class Brightness(Backend):
    """Says how bright a picture's middle is: all bright is happy, all dark is angry."""

    name, install, precisions = "brightness", (), ("fp32",)

    def _load(self) -> None:
        pass

    def _infer(self, batch: Images) -> Probabilities:
        probabilities = np.zeros((len(batch), 7), np.float32)
        probabilities[:, 3] = batch[:, 20:28, 20:28, 0].mean(axis=(1, 2)) / 255
        probabilities[:, 0] = 1 - probabilities[:, 3]
        return probabilities

    def _unload(self) -> None:
        pass


@pytest.fixture
def backend() -> Iterator[Brightness]:
    with Brightness(Bundle(Path(), "", "", ())) as opened:
        yield opened


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Returns a function that writes pictures, uint8 (H, W, 3), as a video."""
    av: Any = pytest.importorskip("av", reason="PyAV is not installed: pip install 'fer-deploy[video]'")

    def write(path: Path, images: Iterable[Images], codec: str = "libx264", **options: str) -> Path:
        stream = None
        with av.open(str(path), "w", options=options) as container:
            for image in images:
                if stream is None:
                    stream = container.add_stream(codec, rate=FPS)
                    stream.height, stream.width = image.shape[:2]
                    stream.pix_fmt = "yuv420p"
                    stream.codec_context.gop_size = 5
                    stream.codec_context.time_base = Fraction(1, FPS)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            if stream is not None:
                container.mux(stream.encode(None))
        return path

    return write


def with_squares(*squares: tuple[int, int, tuple[int, int, int]]) -> Images:
    """Draws a picture with squares of 40 pixels: left edge, upper edge, colour."""
    image = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
    for left, upper, colour in squares:
        image[upper : upper + 40, left : left + 40] = colour
    return image


def moving(count: int = 2 * FPS) -> Iterator[Images]:
    """A red square that goes right, 4 pixels per picture."""
    return (with_squares((20 + 4 * n % 200, 60, (220, 30, 30))) for n in range(count))
