"""Copies of videos with what was found drawn in, written while the rows come.

A video is read a second time beside the run, picture by picture. Between two pictures that were looked at, the boxes of
a track move evenly from the one to the other. The copy has no sound. Its time stamps are those of the video.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

from fer_deploy.errors import UsageError
from fer_deploy.files import check_new
from fer_deploy.images.files import is_video
from fer_deploy.inference.predictions import OK, Prediction
from fer_deploy.reporting.naming import Names
from fer_deploy.video.reading import Moment, Video
from fer_deploy.video.recording import SUFFIX, Recording, drawn


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
        if self._file:
            check_new(target, overwrite)
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
        self._moments: Iterator[Moment] = self._video.moments()
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
        for moment in self._moments:
            if end is not None and moment.number >= end:
                self._moments = chain((moment,), self._moments)
                return
            rows = _between(before, after, moment.time_s)
            self._recording.add(drawn(moment.pixels(), rows, moment.scale), moment.time_s)


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
