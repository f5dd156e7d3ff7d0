"""From a camera to rows: each picture that is taken is looked at here and now, and its faces are followed."""

from __future__ import annotations

import time
from collections.abc import Generator
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.backends.base import Backend, Images
from fer_deploy.errors import ImageError
from fer_deploy.images.sources import Source
from fer_deploy.inference.decoding import read
from fer_deploy.inference.pipeline import predictions
from fer_deploy.inference.predictions import Prediction
from fer_deploy.labels import INPUT_SHAPE, NUM_CLASSES
from fer_deploy.video.camera import Camera
from fer_deploy.video.clips import Follower, Look
from fer_deploy.video.every import Every
from fer_deploy.video.smoothing import DEFAULT_S

_NO_ROWS: Final = np.zeros((0, NUM_CLASSES), np.float32)
_SMALL: Final = 128
_BLANK: Final = np.zeros((480, 640, 3), np.uint8)


class LiveReader:
    """Makes the rows of a camera.

    Args:
        camera: An open one.
        look: What looks for faces in a picture.
        every: Which pictures are looked at, as ``Every.parse`` takes it; None for as many as can be.
        smooth_s: See ``Smoothing``.
        seconds: For how long; None for no end.

    Attributes:
        pixels: The picture whose rows came last: uint8 (H, W, 3), RGB.
        scale: By which boxes are divided to lie in it.
        last: Its rows.
        age_s: How long before they were there it had come from the camera.

    Raises:
        UsageError: ``every`` or ``smooth_s`` makes no sense.
    """

    def __init__(
        self,
        camera: Camera,
        look: Look,
        every: str | None = None,
        smooth_s: float = DEFAULT_S,
        seconds: float | None = None,
    ) -> None:
        self.camera = camera
        self._look, self._seconds = look, seconds
        self._every = None if every is None else Every.parse(every)
        self._follower = Follower(camera.name, smooth_s)
        self.pixels: Images = np.zeros((1, 1, 3), np.uint8)
        self.scale = 1.0
        self.last: list[Prediction] = []
        self.age_s = 0.0

    @property
    def source(self) -> Source:
        """The camera as a source, for ``run``."""
        return Source(self.camera.name, _no_picture, self.rows)

    def rows(self, backend: Backend) -> Generator[list[Prediction], None, None]:
        """Classifies the faces of each picture that is taken; to be called once.

        Args:
            backend: An open one.

        Yields:
            The rows of a picture; at the end, where something went wrong, a row with the status ``error``.

        Raises:
            BackendError: The runtime failed.
        """
        read(Source("", partial(self._look, _BLANK)))  # loads what finds faces, while no picture grows old
        for moment in self.camera.moments(self._every, self._seconds):
            self.pixels, self.scale = moment.pixels(), moment.scale
            decoded = read(Source(str(moment.number), partial(self._look, self.pixels)))
            faces = _NO_ROWS if decoded.pixels is None else _run(backend, decoded.pixels)
            found = predictions([decoded], faces)
            self.last = self._follower.follow(moment.number, moment.time_s, moment.scale, found)
            self.age_s = time.monotonic() - self.camera.came_s
            yield self.last
        if reason := self.camera.trouble or self._follower.trouble:
            yield [Prediction.failed(self.camera.name, reason)]

    def small_picture(self, row: Prediction) -> bytes:
        """Makes a WebP file of a face in the picture whose rows came last."""
        from PIL import Image

        from fer_deploy.reporting.pictures import thumbnail

        return thumbnail(Image.fromarray(self.pixels), row.box, 1 / self.scale, _SMALL)


def _run(backend: Backend, strip: NDArray[np.uint8]) -> NDArray[np.float32]:
    batch = strip.reshape(-1, *INPUT_SHAPE)
    return backend.run(batch) if len(batch) else _NO_ROWS


def _no_picture() -> None:
    raise ImageError("a camera, not a picture")
