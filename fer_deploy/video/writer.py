"""Videos that are written picture by picture: an MP4 file (H.264) without sound.

Copies of videos with what was found drawn in, written while the rows come.

A video is read a second time beside the run, picture by picture. Between two pictures that were looked at, the boxes of
a track move evenly from the one to the other. The copy has no sound. Its time stamps are those of the video.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from fer_deploy.backends.base import Images
from fer_deploy.errors import OutputError, UsageError
from fer_deploy.images.file_kinds import is_video
from fer_deploy.inference.prediction import OK, Prediction
from fer_deploy.reporting.annotate import annotate
from fer_deploy.reporting.copies import CopyNames
from fer_deploy.system.files import check_writable
from fer_deploy.video.reader import Video, VideoFrame, import_av

if TYPE_CHECKING:
    from PIL import Image

    from fer_deploy.video.camera import LiveReader

SUFFIX: Final = ".mp4"
_TICKS: Final = 90_000  # per second: exact for all common rates
_QUALITY: Final = "23"


class Recording:
    """A video that is written under a passing name.

    Args:
        folder: Where it is written; made if it is not there.
        rate: Pictures per second, as its header will tell; None where that is not known.

    Raises:
        OutputError: It cannot be written.
    """

    def __init__(self, folder: Path, rate: Fraction | None) -> None:
        self._folder, self._rate = folder, rate or Fraction(25)
        self._partial = folder / f".{secrets.token_hex(8)}.partial"
        self._stream: Any = None
        self._last = -1
        with self._explained():
            folder.mkdir(parents=True, exist_ok=True)
            self._container: Any = import_av().open(str(self._partial), "w", format="mp4")

    def add(self, image: Image.Image, time_s: float) -> None:
        """Adds a picture; all get the size of the first, which is made even.

        Args:
            image: RGB.
            time_s: When it is shown, since the start; later than that of the last one.
        """
        av = import_av()
        with self._explained():
            if self._stream is None:
                self._stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": _QUALITY})
                self._stream.width, self._stream.height = max(2, image.width // 2 * 2), max(2, image.height // 2 * 2)
                self._stream.pix_fmt = "yuv420p"
                self._stream.codec_context.time_base = Fraction(1, _TICKS)
            size = self._stream.width, self._stream.height
            if abs(image.width - size[0]) > 1 or abs(image.height - size[1]) > 1:  # a stream that changed its size
                image = image.resize(size)
            frame = av.VideoFrame.from_image(image.crop((0, 0, *size)))
            self._last = max(self._last + 1, round(time_s * _TICKS))
            frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
            self._container.mux(self._stream.encode(frame))

    def finish(self, put: Callable[[Path], None]) -> None:
        """Completes the file, and has it put in its place.

        Args:
            put: Moves it; it gets the passing name.
        """
        with self._explained():
            if self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            put(self._partial)

    def drop(self) -> None:
        """Leaves nothing behind but what was put in its place."""
        with suppress(OSError):
            self._container.close()
        self._partial.unlink(missing_ok=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reported = (error.strerror or str(error)).lower()
            raise OutputError(f"cannot write a video to {self._folder}: {reported}") from error


class LiveRecording:
    """Records what a camera shows, with what was found drawn in: each picture that was looked at, at its time.

    However the run ends, what was recorded is kept.

    Args:
        target: A file that ends in ``.mp4``.
        reader: What looks at the camera.
        overwrite: Whether a file that exists already is replaced.

    Attributes:
        written: How many pictures it holds.

    Raises:
        OutputError: It exists already, or cannot be written.
    """

    def __init__(self, target: str, reader: LiveReader, overwrite: bool = False) -> None:
        check_recording(target, overwrite)
        self._file, self._reader = Path(target), reader
        self._rows: list[Prediction] = []
        self._image: tuple[Images, float] | None = None
        self.written = 0

    def write(self, prediction: Prediction) -> None:
        """Takes a row; a picture is drawn when the next one's rows begin."""
        if prediction.frame is None or prediction.time_s is None:
            return
        if self._rows and self._rows[0].frame != prediction.frame:
            self._draw()
        if not self._rows:
            self._image = self._reader.pixels, self._reader.scale
        self._rows.append(prediction)

    def _draw(self) -> None:
        rows, self._rows = self._rows, []
        if rows and self._image:
            pixels, scale = self._image
            self._recording.add(drawn(pixels, rows, scale), rows[0].time_s or 0.0)
            self.written += 1

    def _put(self, written: Path) -> None:
        written.replace(self._file)

    def __enter__(self) -> Self:
        self._recording = Recording(self._file.parent, self._reader.camera.rate)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._draw()
            if self.written:
                self._recording.finish(self._put)
        except OutputError:
            if kind is None:
                raise
        finally:
            self._recording.drop()


def check_recording(target: str, overwrite: bool = False) -> None:
    """Refuses what a camera cannot be recorded to.

    Raises:
        UsageError: The name has another ending.
        OutputError: The file exists already.
    """
    if not target.lower().endswith(SUFFIX):
        raise UsageError(f"--annotate {target} must end in {SUFFIX} with --camera, whose pictures become one video")
    check_writable(target, overwrite, new_parents=True)


def drawn(pixels: Images, rows: Sequence[Prediction], scale: float = 1.0) -> Image.Image:
    """Draws what was found into a picture of a video.

    Args:
        pixels: uint8 (H, W, 3), RGB.
        rows: Its rows; those without a box are left out.
        scale: How many pixels of the boxes one of ``pixels`` is wide.
    """
    from PIL import Image

    found = [
        replace(row, box=(x / scale, y / scale, width / scale, height / scale))
        for row in rows
        if row.box is not None
        for x, y, width, height in (row.box,)
    ]
    return annotate(Image.fromarray(pixels), found)


class AnnotatedVideos:
    """Writes an annotated copy of every video of a run.

    Args:
        target: A folder, in which names are kept as ``Names`` tells; for a single video also a file that ends in
            ``.mp4``.
        inputs: What the run was given.
        overwrite: Whether a file that exists already is replaced.

    Attributes:
        written: How many copies lie there now.

    Raises:
        UsageError: A file, and not a single video.
        OutputError: It cannot be written.
    """

    def __init__(self, target: str, inputs: Sequence[str], overwrite: bool = False) -> None:
        self._file = Path(target) if target.lower().endswith(SUFFIX) else None
        self._names = None if self._file else CopyNames(target, inputs)
        if self._file and not (len(inputs) == 1 and is_video(inputs[0])):
            raise UsageError(f"--annotate {target} takes a single video; give a folder for pictures or for more videos")
        if self._file:
            check_writable(target, overwrite, new_parents=True)
        self._copy: _Copy | None = None
        self._rows: list[Prediction] = []
        self.written = 0

    def write(self, prediction: Prediction) -> None:
        """Takes a row; a picture's rows are drawn when the next picture's begin."""
        if prediction.frame is None:
            self._finish()
            return
        last = self._rows[-1] if self._rows else None
        if last and (last.path != prediction.path or prediction.frame < (last.frame or 0)):
            self._finish()
        elif last and last.frame != prediction.frame:
            self._hand_over()
        self._rows.append(prediction)

    def _hand_over(self) -> None:
        rows, self._rows = self._rows, []
        if self._copy is None:
            self._copy = _Copy(rows[0].path, self._folder())
        self._copy.take(rows)

    def _finish(self) -> None:
        if self._rows:
            self._hand_over()
        if self._copy is not None:
            copy, self._copy = self._copy, None
            copy.finish(self._put)
            self.written += 1

    def _folder(self) -> Path:
        return self._names.folder if self._names else (self._file or Path()).parent

    def _put(self, name: str, written: Path) -> None:
        if self._file:
            written.replace(self._file)
        elif self._names:
            place = self._names.place(name)
            place = place if place.suffix.lower() == SUFFIX else place.with_name(place.name + SUFFIX)
            self._names.put(place, lambda target: os.replace(written, target))  # noqa: PTH105

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        elif self._copy is not None:
            self._copy.drop()


class _Copy:
    """One copy that is being written."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._video = Video(name)
        self._frames: Iterator[VideoFrame] = self._video.frames()
        self._recording = Recording(folder, self._video.rate)
        self._rows: list[Prediction] = []

    def take(self, rows: list[Prediction]) -> None:
        """Draws all pictures before these rows' one."""
        before, self._rows = self._rows, rows
        if before:
            self._draw(before, rows, rows[0].frame)

    def finish(self, put: Callable[[str, Path], None]) -> None:
        """Draws the rest and gives the file its place."""
        try:
            self._draw(self._rows, self._rows, None)
            self._recording.finish(partial(put, self.name))
        finally:
            self.drop()

    def drop(self) -> None:
        """Leaves nothing behind."""
        with self._video:
            self._recording.drop()

    def _draw(self, before: list[Prediction], after: list[Prediction], end: int | None) -> None:
        for frame in self._frames:
            if end is not None and frame.number >= end:
                self._frames = chain((frame,), self._frames)
                return
            rows = _between(before, after, frame.time_s)
            self._recording.add(drawn(frame.pixels(), rows, frame.scale), frame.time_s)


def _between(before: list[Prediction], after: list[Prediction], time_s: float) -> list[Prediction]:
    """Gives the rows of a moment between two: boxes of tracks that are in both moved by their share of the way."""
    start, end = before[0].time_s or 0.0, after[0].time_s or 0.0
    share = min(1.0, max(0.0, (time_s - start) / (end - start))) if end > start else 0.0
    later = {row.track: row.box for row in after if row.track is not None}
    rows = []
    for row in before:
        box, then = row.box, None if row.track is None else later.get(row.track)
        if row.status == OK and box is not None and then is not None:
            moved = tuple(a + share * (b - a) for a, b in zip(box, then, strict=True))
            row = replace(row, box=(moved[0], moved[1], moved[2], moved[3]))
        rows.append(row)
    return rows
