"""A camera or another live source: of its pictures the newest is taken, those that came before it are dropped.

A thread reads all of them as they come, since a source that is not read fills up and gives old pictures from then on.
One picture waits to be taken at most, so what is looked at is no older than the last look took.

From a camera to rows: each picture that is taken is looked at here and now, and its faces are followed.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Generator
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from fer_deploy.backends.base import Backend, Images
from fer_deploy.errors import CameraError, ImageError, UsageError
from fer_deploy.images.sources import Source
from fer_deploy.inference.pipeline import predictions
from fer_deploy.inference.prediction import Prediction
from fer_deploy.inference.prefetch import read
from fer_deploy.labels import INPUT_SHAPE, NUM_CLASSES
from fer_deploy.video.clips import FaceReading, FaceTracker
from fer_deploy.video.reader import MOST_PIXELS, FrameSampling, VideoFrame, import_av, to_video_frame, why
from fer_deploy.video.tracking import DEFAULT_S

_V4L2: Final = "v4l2"
_OPTIONS: Final = {"fflags": "nobuffer", "analyzeduration": "1000000", "probesize": "1000000"}
"""Of FFmpeg, for streams: up to a second is read to learn what they hold, and nothing is kept back."""
_OPEN_S: Final = 10.0
_SILENT_S: Final = 10.0
_POLL_S: Final = 0.1
_JOIN_S: Final = 2.0
_NO_ROWS: Final = np.zeros((0, NUM_CLASSES), np.float32)
_SMALL: Final = 128
_BLANK: Final = np.zeros((480, 640, 3), np.uint8)


class _Shot(NamedTuple):
    """A picture that was read: its number, when it came (``time.monotonic``), and what PyAV decoded."""

    number: int
    came_s: float
    frame: Any


class Camera:
    """A live source that is open: a context manager.

    Args:
        container: An open PyAV container that gives its pictures at their time.
        name: What rows call it.

    Attributes:
        rate: Pictures per second that it says to give; None where it does not say.
        read: How many pictures came so far.
        dropped: How many of them were replaced by a newer one before they were taken.
        came_s: When the picture came that was taken last, by ``time.monotonic``.
        trouble: Why it ended, if it was not ended by us or by itself; else None.

    Raises:
        CameraError: It gives no pictures.
    """

    def __init__(self, container: Any, name: str) -> None:
        self.name = name
        if not container.streams.video:
            container.close()
            raise CameraError(f"{name} gives no pictures (only sound, or nothing)")
        self._container, self._stream = container, container.streams.video[0]
        self._stream.codec_context.thread_type = "SLICE"  # threads that take a picture each would hold pictures back
        self.rate: Fraction | None = self._stream.average_rate or self._stream.guessed_rate
        self.trouble: str | None = None
        self.read = self.dropped = 0
        self.came_s = 0.0
        self._waiting: SimpleQueue[_Shot | None] = SimpleQueue()  # one at most, and the end
        self._left = False
        self._thread = Thread(target=self._work, name="camera", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, source: str | int) -> Self:
        """Opens a camera or a stream.

        Args:
            source: A number (``0`` is ``/dev/video0``), the path of a device or a named pipe, or a stream's address.

        Raises:
            CameraError: It cannot be opened.
            UsageError: It is a file.
            MissingDependencyError: PyAV is not installed.
        """
        av, text = import_av(), str(source)
        place = f"/dev/video{int(text)}" if text.isdecimal() else text
        if os.path.isfile(place):  # noqa: PTH113
            raise UsageError(f"{text} is a file: give it without --camera")
        name = name_of(text)
        is_device = text.isdecimal() or _is_device(place)
        try:
            if is_device:
                return cls(av.open(place, format=_V4L2), name)
            return cls(av.open(place, options=_OPTIONS, timeout=(_OPEN_S, _SILENT_S)), name)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise CameraError(_reason(name, place, error, is_device)) from error

    def frames(
        self, every: FrameSampling | None = None, seconds: float | None = None
    ) -> Generator[VideoFrame, None, None]:
        """Gives the newest picture whenever the last one is done with, until ``stop``.

        Args:
            every: Which pictures are wanted; None for as many as can be taken.
            seconds: For how long; None for no end.
        """
        started = heard = time.monotonic()
        first: _Shot | None = None
        taken = -1
        while not self._left and (seconds is None or time.monotonic() - started < seconds):
            try:
                shot = self._waiting.get(timeout=_POLL_S)
            except Empty:
                if time.monotonic() - heard > _SILENT_S:
                    self.trouble = f"no picture came for {_SILENT_S:.0f} s"
                    return
                continue
            if shot is None:
                return
            heard, first = time.monotonic(), first or shot
            number, time_s = shot.number - first.number, shot.came_s - first.came_s
            stretch = number if every is None else every.stretch(number, Fraction(time_s))
            if stretch > taken:
                taken, self.came_s = stretch, shot.came_s
                yield to_video_frame(number, time_s, shot.frame, self._stream.sample_aspect_ratio)

    def stop(self) -> None:
        """Ends ``moments`` at the next picture; from any thread, or a signal's handler."""
        self._left = True

    def _work(self) -> None:
        try:
            while not self._left and self._pass_on():
                pass
        finally:
            self._waiting.put(None)

    def _pass_on(self) -> bool:
        """Reads until the source ends or errs; tells whether it may go on."""
        av = import_av()
        try:
            for packet in self._container.demux(self._stream):
                with suppress(av.InvalidDataError):  # a stream that lost something on its way goes on with the next
                    for frame in packet.decode():
                        self._offer(frame)
                if self._left:
                    return False
        except BlockingIOError:  # nothing there yet
            time.sleep(_POLL_S / 10)
            return True
        except (av.FFmpegError, OSError, ValueError) as error:
            self.trouble = f"cannot be read any further ({_why(error)})"
        return False

    def _offer(self, frame: Any) -> None:
        if frame.is_corrupt or frame.width * frame.height > MOST_PIXELS:
            return
        with suppress(Empty):
            self._waiting.get_nowait()
            self.dropped += 1
        self._waiting.put(_Shot(self.read, time.monotonic(), frame))
        self.read += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._thread.join(_JOIN_S)
        if not self._thread.is_alive():  # one that hangs in a dead device is left behind, with what it reads from
            self._container.close()


def _is_device(path: str) -> bool:
    try:
        return stat.S_ISCHR(os.stat(path).st_mode) or path.startswith("/dev/")  # noqa: PTH116
    except (OSError, ValueError):
        return path.startswith("/dev/")


def name_of(source: str) -> str:
    """Says what rows call a source: an address without user and password, which must not end up in tables."""
    if source.isdecimal():
        return f"camera {int(source)}"
    host = urlsplit(source).netloc if "://" in source else ""
    return source.replace(host, host.rpartition("@")[2], 1) if "@" in host else source


def _reason(name: str, place: str, error: Exception, is_device: bool) -> str:
    """Says in a line why a camera cannot be opened, and what can be done."""
    number = getattr(error, "errno", None)
    if not is_device:
        return f"{name} cannot be opened as a stream: {_why(error)}"
    if number == errno.ENOENT:
        others = ", ".join(sorted(map(str, Path("/dev").glob("video*")))) or "none"
        return f"no {name} here: there is no {place} (there is: {others})"
    if number in (errno.EACCES, errno.EPERM):
        return f"no right to open {place}: who may is in its group, most often 'video' (sudo usermod -aG video $USER)"
    if number == errno.EBUSY:
        return f"{place} is in use by another program: close that first"
    if isinstance(error, ValueError) and number is None:
        return f"{name} cannot be opened: this PyAV was built without cameras (v4l2, on Linux): {error}"
    return f"{place} is no camera that can be read ({_why(error)})"


def _why(error: Exception) -> str:
    if isinstance(error, import_av().ExitError):  # which is how PyAV ends what takes longer than it may
        return f"nothing came for {_OPEN_S:g} s"
    return why(error).lower()


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
        look: FaceReading,
        every: str | None = None,
        smooth_s: float = DEFAULT_S,
        seconds: float | None = None,
    ) -> None:
        self.camera = camera
        self._look, self._seconds = look, seconds
        self._every = None if every is None else FrameSampling.parse(every)
        self._tracker = FaceTracker(camera.name, smooth_s)
        self.pixels: Images = np.zeros((1, 1, 3), np.uint8)
        self.scale = 1.0
        self.last: list[Prediction] = []
        self.age_s = 0.0

    @property
    def source(self) -> Source:
        """The camera as a source, for ``run``."""
        return Source(self.camera.name, _no_image, self.rows)

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
        for frame in self.camera.frames(self._every, self._seconds):
            self.pixels, self.scale = frame.pixels(), frame.scale
            decoded = read(Source(str(frame.number), partial(self._look, self.pixels)))
            faces = _NO_ROWS if decoded.pixels is None else _run(backend, decoded.pixels)
            found = predictions([decoded], faces)
            self.last = self._tracker.follow(frame.number, frame.time_s, frame.scale, found)
            self.age_s = time.monotonic() - self.camera.came_s
            yield self.last
        if reason := self.camera.trouble or self._tracker.trouble:
            yield [Prediction.failed(self.camera.name, reason)]

    def small_image(self, row: Prediction) -> bytes:
        """Makes a WebP file of a face in the picture whose rows came last."""
        from PIL import Image

        from fer_deploy.reporting.thumbnails import thumbnail

        return thumbnail(Image.fromarray(self.pixels), row.box, 1 / self.scale, _SMALL)


def _run(backend: Backend, strip: NDArray[np.uint8]) -> NDArray[np.float32]:
    batch = strip.reshape(-1, *INPUT_SHAPE)
    return backend.run(batch) if len(batch) else _NO_ROWS


def _no_image() -> None:
    raise ImageError("a camera, not a picture")
