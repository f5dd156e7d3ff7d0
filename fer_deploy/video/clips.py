"""From a video to rows: pictures are sampled, faces found and classified by the pipeline for photos, then joined.

Rows come in the order of time, a picture's faces from the surest to the least sure. A sampled picture without a face
is one row, ``no-face``. Where not all of a video can be read, what can be is kept, and one row with the status
``error``, the clip's last, tells the reason. In memory are some twenty pictures at most, however long the video.

Reads videos, and loads what that takes when the first one comes: most runs have none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.backends.base import Backend
from fer_deploy.errors import ImageError, MissingDependencyError
from fer_deploy.images.file_kinds import is_video
from fer_deploy.images.sources import Source
from fer_deploy.inference.face_reader import Found
from fer_deploy.inference.pipeline import classify
from fer_deploy.inference.prediction import ERROR, OK, Prediction
from fer_deploy.labels import LABELS
from fer_deploy.video.reader import DEFAULT, FrameSampling, Video, VideoFrame
from fer_deploy.video.tracking import DEFAULT_S, Smoothing, Tracks

if TYPE_CHECKING:
    from fer_deploy.backends.base import Backend
    from fer_deploy.inference.prediction import Prediction

FaceReading = Callable[[Any], NDArray[np.uint8] | Found]
"""From uint8 (H, W, 3), RGB, to what ``classify`` takes: a face, or what was found in a photo."""
_BATCH: Final = 4  # small: to look for faces takes far longer than to classify them, and pictures wait in memory


class ClipReader:
    """Makes the rows of videos.

    Args:
        look: What looks for faces in a picture; called in several threads.
        every: Which pictures are looked at, as ``Every.parse`` takes it.
        smooth_s: See ``Smoothing``.

    Attributes:
        path: The clip that is under way; None when there is none.
        time_s: How far it is.
        duration_s: How long it is; None where its header does not tell.

    Raises:
        UsageError: ``every`` or ``smooth_s`` makes no sense.
    """

    def __init__(self, look: FaceReading, every: str = DEFAULT, smooth_s: float = DEFAULT_S) -> None:
        self._look, self._every, self._smooth_s = look, FrameSampling.parse(every), smooth_s
        Smoothing(smooth_s)
        self.path: str | None = None
        self.time_s = 0.0
        self.duration_s: float | None = None

    def rows(self, path: str, backend: Backend) -> Generator[list[Prediction], None, None]:
        """Classifies the faces of a video.

        Args:
            path: The file.
            backend: An open one.

        Yields:
            The rows of consecutive pictures; at the end, where something went wrong, a row with the status ``error``.

        Raises:
            BackendError: The runtime failed.
        """
        try:
            with Video(path) as video:
                self.path, self.time_s, self.duration_s = path, 0.0, video.duration_s
                yield from self._followed(path, video, backend)
        except (ImageError, MissingDependencyError) as error:
            yield [Prediction.failed(path, str(error))]
        finally:
            self.path = None

    def _followed(self, path: str, video: Video, backend: Backend) -> Generator[list[Prediction], None, None]:
        ahead: deque[tuple[int, float, float]] = deque()  # of pictures that were taken and are not back yet
        tracker = FaceTracker(path, self._smooth_s)

        def sources() -> Iterator[Source]:
            for frame in video.frames(self._every):
                ahead.append((frame.number, frame.time_s, frame.scale))
                yield Source(str(frame.number), partial(self._seen, frame))

        with closing(classify(sources(), backend, _BATCH)) as groups:
            for group in groups:
                rows: list[Prediction] = []
                for _, faces in groupby(group, key=lambda row: row.path):
                    number, self.time_s, scale = ahead.popleft()
                    rows += tracker.follow(number, self.time_s, scale, list(faces))
                yield rows
        if reason := video.trouble or tracker.trouble:
            yield [Prediction.failed(path, reason)]

    def _seen(self, frame: VideoFrame) -> NDArray[np.uint8] | Found:
        return self._look(frame.pixels())


class FaceTracker:
    """Turns what was found in one picture after the other into the rows of a video.

    Args:
        path: What the rows call it.
        smooth_s: See ``Smoothing``.

    Attributes:
        trouble: Why a picture could not be looked at, if one could not; else None.
    """

    def __init__(self, path: str, smooth_s: float) -> None:
        self._path = path
        self._tracks, self._smoothing = Tracks(), Smoothing(smooth_s)
        self.trouble: str | None = None

    def follow(self, number: int, time_s: float, scale: float, faces: list[Prediction]) -> list[Prediction]:
        """Takes the next picture.

        Args:
            number: Of the picture.
            time_s: Since the start.
            scale: By which boxes become those of the video.
            faces: What was found in it; one without a box is a picture that was taken as a face.

        Returns:
            Its rows; none of a picture that could not be looked at.
        """
        if faces[0].status == ERROR:
            self.trouble = self.trouble or f"picture {number} at {time_s:.1f} s: {faces[0].reason}"
            return []
        found = [each for each in faces if each.status == OK]
        boxes = [each.box or (0.0, 0.0, 1.0, 1.0) for each in found]
        tracks = iter(self._tracks.follow(time_s, boxes))
        self._smoothing.keep(self._tracks.alive)
        rows = []
        for each in faces:
            row = replace(each, path=self._path, time_s=time_s, frame=number)
            if row.status == OK:
                track = next(tracks)
                row = _reported(row, self._smoothing.add(track, time_s, each.probabilities))
                x, y, width, height = each.box or (0.0, 0.0, 0.0, 0.0)
                box = None if each.box is None else (x * scale, y * scale, width * scale, height * scale)
                row = replace(row, track=track, box=box)
            rows.append(row)
        return rows


def _reported(row: Prediction, probabilities: tuple[float, ...]) -> Prediction:
    best = max(range(len(LABELS)), key=probabilities.__getitem__)
    return replace(row, emotion=LABELS[best], confidence=probabilities[best], probabilities=probabilities)


class LazyClipReader:
    """Makes a ``ClipReader`` when it is needed; at once where settings are given, so that wrong ones are told.

    Args:
        look: See ``ClipReader``, as are the next two.
        every: None for the usual.
        smooth_s: None for the usual.
        given: Paths that are to be read; a video among them needs PyAV now.

    Raises:
        UsageError: A setting makes no sense.
        MissingDependencyError: A video is given and PyAV is not installed.
    """

    def __init__(
        self,
        look: Callable[[Any], Any],
        every: str | None = None,
        smooth_s: float | None = None,
        given: Iterable[str] = (),
    ) -> None:
        self._look, self._every, self._smooth_s = look, every, smooth_s
        self._made: ClipReader | None = None
        if every is not None or smooth_s is not None:
            self._make()
        if any(map(is_video, given)):
            from fer_deploy.video.reader import import_av

            import_av()

    def _make(self) -> ClipReader:
        from fer_deploy.video.reader import DEFAULT
        from fer_deploy.video.tracking import DEFAULT_S

        smooth_s = DEFAULT_S if self._smooth_s is None else self._smooth_s
        self._made = self._made or ClipReader(self._look, self._every or DEFAULT, smooth_s)
        return self._made

    def rows(self, path: str, backend: Backend) -> Generator[list[Prediction], None, None]:
        """See ``ClipReader.rows``."""
        return self._make().rows(path, backend)

    def settings(self) -> dict[str, str]:
        """Gives what decides about rows, for ``Journal``."""
        usual = "as usual"
        return {"every": self._every or usual, "smooth": usual if self._smooth_s is None else f"{self._smooth_s:g}"}

    def place(self) -> str:
        """Tells how far in which video it is; nothing where none is under way."""
        made = self._made
        if made is None or made.path is None:
            return ""
        whole = f" of {_clock(made.duration_s)}" if made.duration_s else ""
        done = min(1.0, made.time_s / made.duration_s) if made.duration_s else 0
        bar = "━" * round(_BAR * done)
        return f"{_clock(made.time_s)}{whole} {bar:{_BAR}}"


_BAR = 20


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
