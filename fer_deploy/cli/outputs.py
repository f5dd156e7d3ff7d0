"""What the rows of ``infer`` go to: a table, a page, copies of pictures, the terminal.

The rows of ``infer`` as a table on the terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from fer_deploy.errors import UsageError
from fer_deploy.inference.prediction import ERROR, NO_FACE
from fer_deploy.inference.sinks.resume import ResumeState, path_of
from fer_deploy.inference.sinks.sink import STDOUT, Sink
from fer_deploy.inference.sinks.text import JsonLinesSink, is_there, table_sink

if TYPE_CHECKING:
    from types import TracebackType

    from fer_deploy.backends.base import Backend
    from fer_deploy.inference.prediction import Prediction
    from fer_deploy.inference.run import Summary, Target
    from fer_deploy.reporting.annotate import Annotated
    from fer_deploy.reporting.copies import Copies
    from fer_deploy.video.camera import LiveReader
    from fer_deploy.video.timeline import Timeline
    from fer_deploy.video.writer import AnnotatedVideos, LiveRecording

_SHOWN: Final = 50


class Outputs:
    """Makes what the rows go to without opening it, so that a wrong one is told before a model is loaded in vain.

    Args:
        paths: What is read.
        output: The table, ``-`` for standard output; None for none but what standard output gets.
        overwrite: Whether files that exist already are replaced.
        resume: Whether the table is gone on with.
        as_json: Whether standard output gets JSON.
        list_paths: Whether standard output gets paths.
        live: Whether it is a camera that is read: its rows are wanted as they come, JSON as lines.

    Attributes:
        targets: In the order in which they are opened; the table is the first, so that it is closed last.
        is_done: Whether the table is there already, with nothing left to resume.

    Raises:
        UsageError: They do not go together.
        OutputError: One of them cannot be written.
    """

    def __init__(
        self,
        paths: list[str],
        output: str | None,
        overwrite: bool,
        resume: bool,
        as_json: bool,
        list_paths: bool,
        live: bool = False,
    ) -> None:
        takers = {"--json": as_json, "--list": list_paths, "--output -": output == STDOUT}
        if len(taking := [name for name, is_given in takers.items() if is_given]) > 1:
            raise UsageError(f"{' and '.join(taking)} both write to standard output: leave one of them out")
        if resume and (output in (None, STDOUT) or overwrite):
            raise UsageError("--resume goes on with a file: give it with --output, and leave --overwrite out")
        self.targets: list[Target] = []
        self.is_done = False
        self._paths, self._overwrite, self._list = paths, overwrite, list_paths
        self._file = None if output in (None, STDOUT) else output
        self._table: Sink | None = None
        self._resumes = False
        self._copies: Copies | None = None
        self._annotated: Annotated | None = None
        self._videos: AnnotatedVideos | None = None
        self._recording: LiveRecording | None = None
        self._timeline: Timeline | None = None
        self._copied_to = self._annotated_to = self._plotted_to = self._page = self._recorded_to = ""
        if self._file is not None:
            self._open_table(self._file, resume)
        elif output == STDOUT or not (as_json or list_paths or (sys.stdout and sys.stdout.isatty())):
            self.targets.append(table_sink(STDOUT))
        elif not (as_json or list_paths or live):
            self.targets.append(TerminalTable())
        if live and as_json:
            self.targets.append(JsonLinesSink(STDOUT))
        for target in self.targets if live else ():
            if isinstance(target, Sink):
                target.flush_every_row()

    def _open_table(self, file: str, resume: bool) -> None:
        self._table = table_sink(file, self._overwrite, resume)
        self.targets.append(self._table)
        if not resume:
            return
        if path_of(file).exists():
            self._resumes = is_there(file)
        elif Path(file).exists() and Path(file).stat().st_size:
            self._table.seek_resume_point(lambda path: None)  # refuses what is no table of ours
            self.is_done = True
        else:
            self._table.overwrite = True  # killed before anything was written

    def failed_before(self, others: Mapping[str, object]) -> int:
        """Counts the pictures that could not be read, of a table that is done.

        Args:
            others: The other outputs, by option, with their values.

        Raises:
            UsageError: One of them was given: they are written along with the table, and that is done.
        """
        if given := [name for name, value in others.items() if value not in (None, False)]:
            raise UsageError(
                f"{self._file} is complete already, and --resume would read nothing for {' and '.join(given)}: leave "
                "--resume out, and choose another name for the table or add --overwrite"
            )
        return sum(row.status == ERROR for row in self._table.existing_rows()) if self._table else 0

    @property
    def resumed(self) -> Sink | None:
        """The table, if an earlier run has left rows in it."""
        return self._table if self._resumes else None

    @property
    def can_resume(self) -> bool:
        """Whether a run that ends now can be gone on with."""
        return self._file is not None

    def begin(self, backend: Backend, more: Mapping[str, str]) -> None:
        """Compares the settings with those of the earlier run, or notes them for a later one.

        Args:
            backend: The open one.
            more: What else decides about the rows: how pictures are taken, how small a face is looked for, how videos
                are read.

        Raises:
            OutputError: They differ.
        """
        if self._table is None or self._file is None:
            return
        settings = {
            "model": f"{backend.bundle.name} {backend.bundle.source_sha256[:12]}",
            "backend": backend.name,
            "precision": f"{backend.precision} computed in {backend.effective}",
            "device": backend.device,
            **more,
        }
        self._table.resume_state = ResumeState(self._file, settings)
        if self._resumes:
            self._table.resume_state.check()

    def sort(self, only: str | None, min_confidence: float | None, copy_to: str | None) -> None:
        """Adds copies or a list of the pictures that are wanted."""
        from fer_deploy.reporting.copies import Copies, CopySelection, PathList

        if copy_to is None and not self._list:
            raise UsageError("--only and --min-confidence choose what --copy-to DIR copies or --list prints: add one")
        wanted = tuple(each.strip() for each in only.split(",")) if only is not None else ()
        choice = CopySelection(wanted, min_confidence or 0)
        if copy_to is not None:
            self._copies, self._copied_to = Copies(copy_to, choice, self._paths), copy_to
            self.targets.append(self._copies)
        if self._list:
            self.targets.append(PathList(choice))

    def annotate(self, folder: str) -> None:
        """Adds annotated copies."""
        from fer_deploy.reporting.annotate import Annotated
        from fer_deploy.video.writer import SUFFIX, AnnotatedVideos

        self._videos = AnnotatedVideos(folder, self._paths, self._overwrite or self._resumes)
        self.targets.append(self._videos)
        self._annotated_to = folder
        if not folder.lower().endswith(SUFFIX):
            self._annotated = Annotated(folder, self._paths)
            self.targets.append(self._annotated)

    def record(self, file: str, reader: LiveReader) -> None:
        """Adds a video of what a camera shows, annotated."""
        from fer_deploy.video.writer import LiveRecording

        self._recording, self._recorded_to = LiveRecording(file, reader, self._overwrite), file
        self.targets.append(self._recording)

    def plot(self, file: str) -> None:
        """Adds a plot of videos over time."""
        from fer_deploy.video.timeline import Timeline

        self._timeline, self._plotted_to = Timeline(file, self._overwrite or self._resumes), file
        self.targets.append(self._timeline)

    def report(self, file: str, backend: Backend, summary: Summary, reader: LiveReader | None = None) -> None:
        """Adds the page; ``reader`` has the pictures that are of a camera."""
        from fer_deploy.inference.run import printable
        from fer_deploy.reporting.html import Page
        from fer_deploy.video.reader import Video

        def about() -> dict[str, str]:
            reported = {
                "read": printable(" ".join(self._paths)),
                "model": f"{backend.bundle.name}, {backend.precision}"
                + (f", --tta {backend.tta}" if backend.tta else ""),
                "computed by": f"{backend.runtime} on {backend.device}",
            }
            why_skipped = ", ".join(f"{n} {reason}" for reason, n in sorted(summary.skipped.items()))
            return {**reported, "left out": why_skipped} if why_skipped else reported

        self._page = file
        image = None if reader is None else reader.small_image
        replaced = self._overwrite or self._resumes
        self.targets.append(Page(file, about, replaced, image=image, open_video=Video))

    def lines(self) -> list[str]:
        """Tells what was written where."""
        lines = [f"written to {self._file}"] if self._file else []
        if self._copies is not None:
            lines.append(_copied(self._copies.written, self._copies.gone, self._copied_to))
        if self._annotated is not None:
            videos = self._videos.written if self._videos else 0
            lines.append(_copied(self._annotated.written + videos, self._annotated.gone, self._annotated_to))
        elif self._videos is not None:
            lines.append(f"annotated: {self._annotated_to}")
        if self._recording is not None:
            lines.append(
                f"recorded: {self._recorded_to}" if self._recording.written else "no recording: no picture came"
            )
        if self._timeline is not None:
            lines.append(
                f"plot: {self._plotted_to}" if self._timeline.drawn else "no plot: no face was followed in a video"
            )
        return [*lines, f"report: {self._page}"] if self._page else lines


def _copied(written: int, gone: int, folder: str) -> str:
    missing = f", {gone} could not be read any more" if gone else ""
    return f"{written} {'copy' if written == 1 else 'copies'} in {folder}{missing}"


class TerminalTable:
    """The first rows as a table on the terminal."""

    def __enter__(self) -> TerminalTable:
        self._first: list[Prediction] = []
        self._seen = 0
        return self

    def write(self, prediction: Prediction) -> None:
        """Keeps it if it is among the first."""
        self._seen += 1
        if self._seen <= _SHOWN:
            self._first.append(prediction)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._first:
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        from fer_deploy.inference.run import printable

        table = Table("picture", "emotion", "confidence", box=None, pad_edge=False, header_style="bold")
        for each in self._first:
            path = Text(printable(each.path), overflow="fold")
            if each.face is not None:
                path.append(f"  face {each.face}", "dim")
            if each.time_s is not None:
                path.append(f"  {each.time_s:.1f} s", "dim")
            if each.track is not None:
                path.append(f"  track {each.track}", "dim")
            if each.status == NO_FACE:
                table.add_row(path, Text(each.status, "dim"), "")
            elif each.confidence is None:
                table.add_row(path, Text(each.status, "red"), Text(printable(each.reason), "red"))
            else:
                table.add_row(path, Text(each.emotion or "", "bold"), _bar(each.confidence))
        console = Console()
        console.print(table)
        if self._seen > _SHOWN:
            console.print(
                f"and {self._seen - _SHOWN:,} more; all rows: --output emotions.csv", style="dim", highlight=False
            )


def _bar(confidence: float) -> str:
    return f"{100 * confidence:5.1f} % " + "█" * round(10 * confidence)


@contextmanager
def exit_codes(can_resume: bool) -> Iterator[None]:
    """Ends quietly where Typer would end with a wrong code or without a word."""
    try:
        yield
    except KeyboardInterrupt:
        go_on = "; --resume goes on" if can_resume else ""
        print(f"fer-deploy: interrupted; the rows so far are valid{go_on}", file=sys.stderr)
        raise typer.Exit(130) from None
    except BrokenPipeError:  # the reader of our stdout has seen enough (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
