"""``fer-deploy infer``: pictures in, a table of emotions out."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from fer_deploy.cli.options import BackendOption, BundleOption, DeviceOption, JsonOption, PrecisionOption, ThreadsOption
from fer_deploy.errors import UsageError

if TYPE_CHECKING:
    from types import TracebackType

    from fer_deploy.inference.predictions import Prediction
    from fer_deploy.inference.run import Target
    from fer_deploy.inference.summary import Summary

_SHOWN = 50

PathsArgument = Annotated[
    list[str], typer.Argument(metavar="PATH...", help="Pictures, folders, quoted patterns ('*.png'), zip archives.")
]


def infer(
    paths: PathsArgument,
    bundle: BundleOption = "default",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Pictures per batch; what bench --tune found if not given.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="A new .csv, .jsonl or .parquet file; - for CSV on standard output."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 if any picture could not be read.")] = False,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary on stderr.")] = False,
) -> None:
    """Tell the emotion in pictures of faces, each cut to its face already.

    Folders are walked with all below them; rows come in sorted order. A picture
    that cannot be read costs one row with the reason, never the run. A table is
    shown on a terminal; into a pipe without --output goes CSV with all rows.
    Summary and progress go to stderr.

    Examples:

      fer-deploy infer face.png photos/

      fer-deploy infer photos/ 'more/**/*.jpg' faces.zip --output emotions.csv

      fer-deploy infer photos/ --output - --quiet | cut -d, -f1,3,4

      fer-deploy infer photos/ --backend onnx --strict --json > emotions.json
    """
    from fer_deploy.backends.select import open_backend
    from fer_deploy.bundle import Bundle
    from fer_deploy.images.sources import Sources
    from fer_deploy.inference.run import run
    from fer_deploy.inference.summary import Summary, printable

    warnings.filterwarnings("ignore", module="PIL")  # what Pillow remarks on odd files; what it refuses becomes a row
    targets = _targets(output, overwrite, as_json)
    sources = Sources(paths)
    with open_backend(Bundle.load(bundle), backend, precision, device, threads) as opened:
        summary = Summary(opened)
        if as_json:
            targets.append(_json(summary))
        try:
            with _exit_codes(), _progress(summary, hidden=quiet or output == "-") as watch:
                run(sources, opened, targets, summary, batch or opened.batch, watch)
        finally:
            if not quiet and (summary.done or summary.failed):
                print("\n".join(summary.lines()), file=sys.stderr)
        if output not in (None, "-") and not quiet:
            print(f"written to {output}", file=sys.stderr)
    if not sources.found:
        left_out = "".join(f", {n} {reason} left out" for reason, n in sources.skipped.items())
        raise UsageError(f"no picture found in: {' '.join(map(printable, paths))}{left_out}")
    if strict and summary.failed:
        raise typer.Exit(1)


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Ends quietly where Typer would end with a wrong code or without a word."""
    try:
        yield
    except KeyboardInterrupt:
        print("fer-deploy: interrupted; the rows so far are valid", file=sys.stderr)
        raise typer.Exit(130) from None
    except BrokenPipeError:  # the reader of our stdout has seen enough (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def _targets(output: str | None, overwrite: bool, as_json: bool) -> list[Target]:
    """Makes what the rows go to, without opening it: a wrong output is told before a model is loaded in vain."""
    from fer_deploy.inference.sinks import STDOUT, table_sink

    if output == STDOUT and as_json:
        raise UsageError("--json and --output - both write to standard output: leave one of them out")
    if output is not None:
        return [table_sink(output, overwrite)]
    if as_json:
        return []
    return [_Shown() if sys.stdout.isatty() else table_sink(STDOUT)]


def _json(summary: Summary) -> Target:
    from fer_deploy.inference.sinks import JsonSink
    from fer_deploy.machine import machine_info

    return JsonSink({"schema": 1, "machine": machine_info()}, lambda: {"summary": summary.as_json()})


class _Shown:
    """The first rows as a table on the terminal."""

    def __enter__(self) -> _Shown:
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

        from fer_deploy.inference.summary import printable

        table = Table("picture", "emotion", "confidence", box=None, pad_edge=False, header_style="bold")
        for each in self._first:
            path = Text(printable(each.path), overflow="fold")
            if each.confidence is None:
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
def _progress(summary: Summary, hidden: bool) -> Iterator[Callable[[], None]]:
    """Shows on a terminal's stderr how far a run is; gives what is to be called after each batch."""
    if hidden or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=None)

        def watch() -> None:
            failed = f", {summary.failed:,} failed" if summary.failed else ""
            rate = f"{summary.images_per_s:,.0f} images/s"
            progress.update(task, description=f"{summary.done:,} pictures, {rate}{failed}")

        yield watch
