"""Copies of videos with what was found drawn in, written while the rows come.

A video is read a second time beside the run, picture by picture. Between two pictures that were looked at, the boxes of
a track move evenly from the one to the other. The copy has no sound. Its time stamps are those of the video.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from fer_deploy.errors import OutputError, UsageError
from fer_deploy.images.files import is_video
from fer_deploy.inference.predictions import OK, Prediction
from fer_deploy.reporting.annotation import annotate
from fer_deploy.reporting.naming import Names
from fer_deploy.video.reading import Moment, Video, import_av

SUFFIX: Final = ".mp4"
_TICKS: Final = 90_000  # per second: exact for all common rates
_QUALITY: Final = "23"


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
        self._names = None if self._file else Names(target, inputs)
        if self._file and not (len(inputs) == 1 and is_video(inputs[0])):
            raise UsageError(f"--annotate {target} takes a single video; give a folder for pictures or for more videos")
        if self._file and self._file.exists() and not overwrite:
            raise OutputError(f"{target} exists already; choose another name or add --overwrite")
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
        folder = self._names.folder if self._names else (self._file or Path()).parent
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _put(self, name: str, partial: Path) -> None:
        if self._file:
            partial.replace(self._file)
        elif self._names:
            place = self._names.place(name)
            place = place if place.suffix.lower() == SUFFIX else place.with_name(place.name + SUFFIX)
            self._names.put(place, lambda target: os.replace(partial, target))  # noqa: PTH105

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
        self._partial = folder / f".{secrets.token_hex(8)}.partial"
        self._video = Video(name)
        self._moments: Iterator[Moment] = self._video.moments()
        try:
            self._container: Any = import_av().open(str(self._partial), "w", format="mp4")
        except OSError as error:
            raise OutputError(f"cannot write to {folder}: {(error.strerror or str(error)).lower()}") from error
        self._stream: Any = None
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
            if self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            put(self.name, self._partial)
        except OSError as error:
            raise OutputError(
                f"cannot write a copy of {self.name}: {(error.strerror or str(error)).lower()}"
            ) from error
        finally:
            self.drop()

    def drop(self) -> None:
        """Leaves nothing behind."""
        with suppress(OSError):
            self._container.close()
        with self._video:
            self._partial.unlink(missing_ok=True)

    def _draw(self, before: list[Prediction], after: list[Prediction], end: int | None) -> None:
        for moment in self._moments:
            if end is not None and moment.number >= end:
                self._moments = chain((moment,), self._moments)
                return
            self._encode(moment, _between(before, after, moment.time_s))

    def _encode(self, moment: Moment, rows: list[Prediction]) -> None:
        from PIL import Image

        av = import_av()
        small = [row if row.box is None else replace(row, box=_scaled(row.box, 1 / moment.scale)) for row in rows]
        image = annotate(Image.fromarray(moment.pixels()), [row for row in small if row.box is not None])
        if self._stream is None:
            rate = self._video.rate or Fraction(25)
            self._stream = self._container.add_stream("libx264", rate=rate, options={"crf": _QUALITY})
            self._stream.width, self._stream.height = image.width // 2 * 2, image.height // 2 * 2
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, _TICKS)
        frame = av.VideoFrame.from_image(image.crop((0, 0, self._stream.width, self._stream.height)))
        frame.pts, frame.time_base = round(moment.time_s * _TICKS), Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))


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


def _scaled(box: tuple[float, float, float, float], scale: float) -> tuple[float, float, float, float]:
    x, y, width, height = box
    return x * scale, y * scale, width * scale, height * scale
