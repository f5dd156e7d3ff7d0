"""A whole run: sources through a backend into sinks, counted.

What a run over many pictures comes to.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from fer_deploy.backends.base import Backend
from fer_deploy.images.sources import Source, Sources
from fer_deploy.inference.pipeline import classify
from fer_deploy.inference.prediction import ERROR, NO_FACE, Prediction, valid_text
from fer_deploy.inference.sinks.resume import Match
from fer_deploy.inference.sinks.sink import Sink
from fer_deploy.labels import LABELS

if TYPE_CHECKING:
    from fer_deploy.inference.face_reader import PhotoReader

REASONS_KEPT: Final = 5
_BAR_WIDTH: Final = 30


class Target(AbstractContextManager["Target"], Protocol):
    """What takes predictions; every ``Sink`` does."""

    def write(self, prediction: Prediction) -> None:
        """Takes one."""


def run(
    sources: Sources,
    backend: Backend,
    targets: Sequence[Target],
    summary: Summary,
    batch_size: int = 64,
    watch: Callable[[], None] = lambda: None,
    resumed: Sink | None = None,
    guarded: Callable[[Iterator[Source]], Iterator[Source]] = iter,
) -> None:
    """Classifies everything; when it is interrupted, the targets and the summary hold what was done so far.

    Args:
        sources: The pictures.
        backend: An open one.
        targets: Each gets every prediction, in order; opened and closed here.
        summary: Counts them.
        batch_size: Pictures per batch.
        watch: Called after each batch.
        resumed: The target that holds the rows of an earlier run; they count, and the other targets get them, too.
        guarded: Gives the sources that are read, to watch over their reading.

    Raises:
        OutputError: A target cannot be written, or the rows of the earlier run are of other sources.
        BackendError: The runtime failed.
    """
    summary.skipped = sources.skipped
    match = Match(resumed.target if resumed else "", iter(sources))
    if resumed is not None:
        resumed.seek_resume_point(match)
    with ExitStack() as stack:
        for target in targets:
            stack.enter_context(target)
        for row in () if resumed is None else resumed.existing_rows():
            _hand_on(
                replace(row, path=match.name(row.path)), [each for each in targets if each is not resumed], summary
            )
        summary.start()
        for group in stack.enter_context(closing(classify(guarded(match.rest()), backend, batch_size))):
            for prediction in group:
                _hand_on(prediction, targets, summary)
            watch()


def _hand_on(prediction: Prediction, targets: Sequence[Target], summary: Summary) -> None:
    summary.add(prediction)
    for target in targets:
        target.write(prediction)


class Summary:
    """Counts as predictions come.

    Args:
        backend: The open backend that makes them.

    Attributes:
        emotions: Pictures, or faces found in photos, per emotion.
        faces: How many of them were found in photos.
        photos: How many photos were searched, those of videos included.
        no_face: How many of those without finding a face.
        videos: How many videos gave rows of pictures.
        tracks: How many faces were followed in them, each for as long as it could be.
        detector: What looked for faces, and why it was not the usual one, if it was not.
        unsearched: Why photos were taken as faces, where they were for lack of what finds faces.
        failed: How many could not be read.
        reasons: Path and reason of the first few of them.
        skipped: Files left out, by reason; to be filled in by who walked.
        earlier: How many of the pictures an earlier run has classified, which this one goes on with.
    """

    def __init__(self, backend: Backend) -> None:
        self.emotions: Counter[str] = Counter()
        self.faces = self.photos = self.no_face = self.videos = self.tracks = 0
        self._clip: tuple[str, int, int] = ("", 0, -1)  # path, last picture, last track
        self.detector: tuple[str, str] = ("", "")
        self.unsearched: str | None = None
        self.failed = 0
        self.reasons: list[tuple[str, str]] = []
        self.skipped: Mapping[str, int] = {}
        self.earlier = 0
        self._backend = backend
        self._start = time.perf_counter()

    def start(self) -> None:
        """Starts the clock; what was counted before is of an earlier run and says nothing about speed."""
        self.earlier = self.done
        self._start = time.perf_counter()

    def searched(self, reader: PhotoReader) -> None:
        """Notes what looked for faces, or why nothing did."""
        self.unsearched = reader.missing
        if reader.chosen is not None:
            self.detector = reader.chosen.network.name, reader.chosen.why

    def add(self, prediction: Prediction) -> None:
        """Counts one."""
        if prediction.emotion is not None:
            self.emotions[prediction.emotion] += 1
        self.faces += prediction.face is not None
        self.no_face += prediction.status == NO_FACE
        self.photos += prediction.face == 0 or prediction.status == NO_FACE
        if prediction.frame is not None:
            self._add_moment(prediction, prediction.frame)
        if prediction.status == ERROR:
            self.failed += 1
            if len(self.reasons) < REASONS_KEPT:
                self.reasons.append((prediction.path, prediction.reason))

    def _add_moment(self, prediction: Prediction, frame: int) -> None:
        path, last, track = self._clip
        if path != prediction.path or frame < last:
            self.videos += 1
            track = -1
        if prediction.track is not None and prediction.track > track:
            self.tracks += 1
            track = prediction.track
        self._clip = (prediction.path, frame, track)

    @property
    def done(self) -> int:
        """Pictures classified, or searched for faces."""
        return self.emotions.total() - self.faces + self.photos

    @property
    def seconds(self) -> float:
        """Time since the start, the model's loading not counted."""
        return time.perf_counter() - self._start

    @property
    def images_per_s(self) -> float:
        """Pictures classified per second, decoding included."""
        return (self.done - self.earlier) / max(self.seconds, 1e-9)

    def as_json(self) -> dict[str, Any]:
        """Gives the summary as ``--json`` prints it."""
        backend = self._backend
        return {
            "backend": backend.name,
            "precision": backend.precision,
            "effective": backend.effective,
            "device": backend.device,
            "runtime": backend.runtime,
            "tta": backend.tta,
            "n": self.done,
            "photos": self.photos,
            "faces": self.faces,
            "no_face": self.no_face,
            "detector": self.detector[0],
            "videos": self.videos,
            "tracks": self.tracks,
            "earlier": self.earlier,
            "failed": self.failed,
            "skipped": dict(self.skipped),
            "emotions": {label: self.emotions[label] for label in LABELS},
            "seconds": round(self.seconds, 3),
            "images_per_s": round(self.images_per_s, 1),
        }

    def lines(self) -> list[str]:
        """Gives the summary for people to read, a bar per emotion."""
        most, classified = max(self.emotions.values(), default=0), self.emotions.total()
        lines = [
            f"  {label:<9}{self.emotions[label]:>8}  {100 * self.emotions[label] / classified:5.1f} %  "
            + "█" * round(_BAR_WIDTH * self.emotions[label] / most)
            for label in LABELS
            if self.emotions[label]
        ]
        backend = self._backend
        computed = "" if backend.effective == backend.precision else f", computed in {backend.effective}"
        twice = f", --tta {backend.tta}" if backend.tta else ""
        earlier = f" ({self.earlier:,} of them done before)" if self.earlier else ""
        lines.append(
            f"{_count(self.done, 'picture')}{earlier} in {self.seconds:.2f} s, {self.images_per_s:.0f} images/s "
            f"({backend.runtime}, {backend.precision}{computed}, {backend.device}{twice})"
        )
        if self.photos:
            none = f", none in {self.no_face:,}" if self.no_face else ""
            searched = "searched picture" if self.videos else "photo"
            lines.append(f"{_count(self.faces, 'face')} in {_count(self.photos, searched)}{none}{_by(*self.detector)}")
        if self.videos:
            lines.append(f"{_count(self.videos, 'video')}, {_count(self.tracks, 'track')}")
        if self.unsearched:
            lines.append(f"all were taken as faces, none searched for them: {self.unsearched}")
        if self.failed:
            lines.append(f"{self.failed} failed:")
            lines += [f"  {printable(path)}: {printable(reason)}" for path, reason in self.reasons]
            more = self.failed - len(self.reasons)
            lines += [f"  and {more} more, each with its reason in the output"] if more else []
        if self.skipped:
            lines.append("left out: " + ", ".join(f"{n} {reason}" for reason, n in sorted(self.skipped.items())))
        return lines


def printable(text: str) -> str:
    """Makes a name safe for a terminal: no control characters, which could move the cursor or worse, no newlines."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in valid_text(text))


def _by(detector: str, why: str) -> str:
    return detector and f"; {detector} looked for them{why and f', since {why}'}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
