"""A plot of the probabilities over time, one chart for each of the tracks with the most pictures."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fer_deploy.errors import OutputError, UsageError
from fer_deploy.inference.prediction import Prediction
from fer_deploy.labels import LABELS
from fer_deploy.reporting.annotate import COLOURS
from fer_deploy.system.figures import new_figure
from fer_deploy.system.files import check_writable

CHARTS: Final = 8
_ENDINGS: Final = (".png", ".pdf", ".svg")
MOST_POINTS: Final = 4096
_KEPT_TRACKS: Final = 500  # when there are more, those with the fewest pictures are forgotten


class _Track:
    """A track's probabilities over time, thinned evenly where there are more than a chart can show.

    Attributes:
        seen: Of how many pictures.
        points: Time and probabilities of each that was kept.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.points: list[tuple[float, ...]] = []
        self._step = 1

    def add(self, point: tuple[float, ...]) -> None:
        if self.seen % self._step == 0:
            self.points.append(point)
        self.seen += 1
        if len(self.points) > MOST_POINTS:
            del self.points[1::2]
            self._step *= 2


class Timeline:
    """Takes the rows of videos and draws them in the end; memory does not grow with their length.

    Args:
        file: Ends in ``.png``, ``.pdf`` or ``.svg``.
        overwrite: Whether a file that exists already is replaced.

    Attributes:
        drawn: Whether there was a track of two pictures or more to draw.

    Raises:
        UsageError: The name has another ending.
        OutputError: The file exists already, or cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """

    def __init__(self, file: str, overwrite: bool = False) -> None:
        self._file = Path(file)
        if self._file.suffix.lower() not in _ENDINGS:
            raise UsageError(f"The plot {file!r} must end in {', '.join(_ENDINGS)}")
        check_writable(file, overwrite)
        new_figure(1, 1, "the plot of a video")  # if it is not installed, that is told now
        self._tracks: dict[tuple[str, int], _Track] = {}
        self.drawn = False

    def write(self, prediction: Prediction) -> None:
        """Takes a row; those of pictures are left out."""
        if prediction.track is None or prediction.time_s is None or not prediction.probabilities:
            return
        track = self._tracks.setdefault((prediction.path, prediction.track), _Track())
        track.add((prediction.time_s, *prediction.probabilities))
        if len(self._tracks) > _KEPT_TRACKS:
            others = sorted(self._tracks, key=lambda key: self._tracks[key].seen)[: _KEPT_TRACKS // 2]
            for key in others:
                del self._tracks[key]

    def draw(self) -> None:
        """Draws what came so far."""
        followed = [key for key, track in self._tracks.items() if track.seen > 1]
        longest = sorted(followed, key=lambda key: -self._tracks[key].seen)[:CHARTS]
        shown = [key for key in self._tracks if key in longest]
        if not shown:
            return
        figure = new_figure(10, 1 + 1.6 * len(shown), "the plot of a video")
        charts = figure.subplots(len(shown), squeeze=False)[:, 0]
        for chart, (path, track) in zip(charts, shown, strict=True):
            times, *chances = zip(*self._tracks[path, track].points, strict=True)
            colours = [tuple(part / 255 for part in COLOURS[label]) for label in LABELS]
            chart.stackplot(times, chances, labels=LABELS, colors=colours)
            chart.set(ylim=(0, 1), title=f"{Path(path).name}, track {track}", xmargin=0)
            chart.set_ylabel("probability")
        charts[-1].set_xlabel("seconds")
        figure.legend(*charts[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(LABELS))
        try:
            figure.savefig(self._file)
        except OSError as error:
            raise OutputError(f"cannot write to {self._file}: {(error.strerror or str(error)).lower()}") from error
        self.drawn = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.draw()
