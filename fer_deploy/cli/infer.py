"""``fer-deploy infer``: pictures in, a table of emotions out."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from fer_deploy.cli.options import (
    BackendOption,
    BundleOption,
    DeviceOption,
    JsonOption,
    PrecisionOption,
    ThreadsOption,
    TtaOption,
)
from fer_deploy.errors import UsageError

if TYPE_CHECKING:
    from fer_deploy.images.sources import Sources
    from fer_deploy.inference.face_reader import PhotoReader
    from fer_deploy.inference.isolation import CrashGuard
    from fer_deploy.inference.run import Summary, Target
    from fer_deploy.video.clips import LazyClipReader

PathsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH...", help="Pictures, videos, folders, quoted patterns ('*.png'), zip archives."),
]


def infer(
    paths: PathsArgument = None,
    camera: Annotated[
        str | None,
        typer.Option("--camera", metavar="0", help="A camera, live: its number, its device, or a stream's address."),
    ] = None,
    seconds: Annotated[
        str | None, typer.Option("--for", metavar="10s", help="How long to watch the camera; till Ctrl-C if not given.")
    ] = None,
    bundle: BundleOption = "default",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    tta: TtaOption = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Pictures per batch; what bench --tune found if not given.")
    ] = None,
    face: Annotated[
        str,
        typer.Option(
            "--face",
            metavar="auto|detect|crop",
            help="Look for faces in every picture (detect), take every picture as a face (crop), or take small square "
            "ones as faces and look in the others (auto).",
        ),
    ] = "auto",
    smallest_face: Annotated[
        int | None,
        typer.Option("--smallest-face", min=8, help="Pixels of the smallest face to look for: 20; larger is faster."),
    ] = None,
    detector: Annotated[
        str,
        typer.Option(
            "--detector", metavar="auto|centerface|yunet|FILE.onnx", help="What looks for faces; FILE: one of the two."
        ),
    ] = "auto",
    every: Annotated[
        str | None,
        typer.Option("--every", metavar="0.5s|10f", help="Which pictures of videos to look at; 0.5s if not given."),
    ] = None,
    smooth: Annotated[
        float | None,
        typer.Option("--smooth", metavar="SECONDS", help="Smooth a video's probabilities; 1 if not given, 0 for none."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="A new .csv, .jsonl or .parquet file; - for CSV on standard output."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace output and report if they exist.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the output of a run that was killed or interrupted.")
    ] = False,
    report: Annotated[
        str | None, typer.Option("--report", help="A new .html file: charts, faces to look through, failures.")
    ] = None,
    annotate: Annotated[
        str | None,
        typer.Option(
            "--annotate", metavar="DIR", help="Copies with what was found drawn in; or, of one video, an .mp4 file."
        ),
    ] = None,
    plot: Annotated[
        str | None, typer.Option("--plot", help="A new .png, .pdf or .svg file: the probabilities of videos over time.")
    ] = None,
    copy_to: Annotated[
        str | None,
        typer.Option("--copy-to", metavar="DIR", help="Copies, in a folder for each emotion."),
    ] = None,
    list_paths: Annotated[
        bool, typer.Option("--list", help="Print nothing but the paths that --copy-to would copy.")
    ] = False,
    only: Annotated[
        str | None, typer.Option("--only", metavar="EMOTIONS", help="What --copy-to and --list take: happy,surprise")
    ] = None,
    min_confidence: Annotated[
        float | None, typer.Option("--min-confidence", help="And how sure it must be at least, 0 to 1.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 if any picture could not be read.")] = False,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary on stderr.")] = False,
) -> None:
    """Tell the emotion of faces: in photos, or in pictures cut to a face already.

    Folders are walked with all below them; rows come in sorted order. A picture
    that cannot be read costs one row with the reason, never the run. A table is
    shown on a terminal; into a pipe without --output goes CSV with all rows.
    Summary and progress go to stderr. Faces in photos need pip install
    'fer-deploy[faces]'; a photo gives a row for each face, or one "no-face".
    Videos need 'fer-deploy[video]': each picture that is looked at gives rows
    as a photo does, with time, number, and the track of a face over time.

    Examples:

      fer-deploy infer face.png photos/

      fer-deploy infer photos/ 'more/**/*.jpg' faces.zip --output emotions.csv

      fer-deploy infer photos/ --output - --quiet | cut -d, -f1,3,4

      fer-deploy infer photos/ --backend onnx --strict --json > emotions.json

      fer-deploy infer photos/ --output emotions.csv --report report.html --resume

      fer-deploy infer clip.mp4 --every 0.2s --output emotions.csv

      fer-deploy infer photos/ --only happy --min-confidence 0.8 --copy-to happy/

      fer-deploy infer --camera 0 --output emotions.csv --annotate seen.mp4
    """
    if camera is not None or seconds is not None:
        from fer_deploy.cli.watch import refuse, watch_camera

        given = {"PATH": paths, "--batch": batch, "--resume": resume, "--copy-to": copy_to, "--list": list_paths}
        refuse(camera, given | {"--only": only, "--min-confidence": min_confidence})
        model, faces = (bundle, backend, precision, device, threads, tta), (face, smallest_face, detector)
        files = {"output": output, "annotate": annotate, "plot": plot, "report": report}
        failed = watch_camera(str(camera), seconds, model, faces, every, smooth, files, overwrite, as_json, quiet)
        if strict and failed:
            raise typer.Exit(1)
        return
    if not paths:
        raise UsageError("Nothing to read: give pictures, videos or folders, or --camera 0")
    is_table = output not in (None, "-") and not (as_json or list_paths)
    guard = _run_isolated(paths, face, smallest_face, detector) if is_table else None
    crashed = guard is not None and guard.attempt > 0  # the process before this one, which has left its rows

    from fer_deploy.backends.select import open_backend
    from fer_deploy.bundle.manifest import Bundle
    from fer_deploy.cli.outputs import Outputs, exit_codes
    from fer_deploy.inference.run import Summary, printable, run

    warnings.filterwarnings("ignore", module="PIL")  # what Pillow remarks on odd files; what it refuses becomes a row
    outputs = Outputs(paths, output, overwrite and not crashed, resume or crashed, as_json, list_paths)
    if outputs.is_done:
        others = {"--report": report, "--annotate": annotate, "--plot": plot, "--copy-to": copy_to}
        failed = outputs.failed_before({**others, "--list": list_paths, "--json": as_json})
        print(f"{output} is complete: there is nothing to resume; --overwrite makes it anew", file=sys.stderr)
        if strict and failed:
            raise typer.Exit(1)
        return
    if only is not None or min_confidence is not None or copy_to is not None or list_paths:
        outputs.sort(only, min_confidence, copy_to)
    if annotate is not None:
        outputs.annotate(annotate)
    if plot is not None:
        outputs.plot(plot)
    sources, reader, clips = _sources(paths, face, smallest_face, threads, every, smooth, detector)
    with open_backend(Bundle.load(bundle), backend, precision, device, threads, tta) as opened:
        summary = Summary(opened)
        taken = face if smallest_face is None else f"{face}, from {smallest_face} pixels"
        if reader is not None and detector != "auto" and reader.chosen is not None:
            taken += f", found by {reader.chosen.label}"
        outputs.begin(opened, {"face": taken, **clips.settings(), **({"tta": tta} if tta else {})})
        if report is not None:
            outputs.report(report, opened, summary)
        if as_json:
            outputs.targets.append(_json(summary))
        try:
            with exit_codes(outputs.can_resume), _progress(summary, clips.place, quiet or output == "-") as watch:
                size, guarded = batch or opened.batch, guard.watched if guard else iter
                run(sources, opened, outputs.targets, summary, size, watch, outputs.resumed, guarded)
        finally:
            if reader is not None:
                summary.searched(reader)
            if not quiet and (summary.done or summary.failed):
                print("\n".join(summary.lines()), file=sys.stderr)
        if not quiet:
            print("\n".join(outputs.lines()), end="\n" * bool(outputs.lines()), file=sys.stderr)
    if not sources.found:
        why_skipped = "".join(f", {n} {reason} left out" for reason, n in sources.skipped.items())
        raise UsageError(f"no picture found in: {' '.join(map(printable, paths))}{why_skipped}")
    if strict and summary.failed:
        raise typer.Exit(1)


def _sources(
    paths: list[str],
    face: str,
    smallest_face: int | None,
    threads: int | None = None,
    every: str | None = None,
    smooth: float | None = None,
    detector: str = "auto",
) -> tuple[Sources, PhotoReader | None, LazyClipReader]:
    """Makes what is read, what looks for faces in it, if anything does, and what reads videos."""
    from fer_deploy.images.sources import Readers, Sources
    from fer_deploy.inference.face_reader import photo_reader
    from fer_deploy.video.clips import LazyClipReader

    reader = photo_reader(face, detector, smallest_face, threads)
    readers = Readers() if reader is None else reader.readers
    clips = LazyClipReader(readers.array, every, smooth, paths)
    return Sources(paths, readers._replace(clip=clips.rows)), reader, clips


def _run_isolated(paths: list[str], face: str, smallest_face: int | None, detector: str) -> CrashGuard | None:
    """Goes on in a process whose crash costs a picture's row; only for a table in a file, which can be gone on with."""
    from fer_deploy import cli

    if not cli.is_program:
        return None
    from fer_deploy.inference.isolation import run_isolated

    return run_isolated(lambda: _sources(paths, face, smallest_face, detector=detector)[0], _read_video)


def _read_video(path: str) -> None:
    from fer_deploy.video.reader import read_through

    read_through(path)


def _json(summary: Summary) -> Target:
    from fer_deploy.inference.sinks.text import JsonSink
    from fer_deploy.system.machine import machine_info

    return JsonSink({"schema": 1, "machine": machine_info()}, lambda: {"summary": summary.as_json()})


@contextmanager
def _progress(summary: Summary, place: Callable[[], str], hidden: bool) -> Iterator[Callable[[], None]]:
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
            progress.update(task, description=f"{summary.done:,} pictures, {rate}{failed}  {place()}")

        yield watch
