"""``fer-deploy infer --camera``: what a camera shows, classified as it comes, until Ctrl-C."""

from __future__ import annotations

import re
import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from fer_deploy.errors import UsageError
from fer_deploy.inference.prediction import OK, Prediction

if TYPE_CHECKING:
    from rich.text import Text

    from fer_deploy.cli.outputs import Outputs
    from fer_deploy.inference.face_reader import PhotoReader
    from fer_deploy.inference.run import Summary
    from fer_deploy.video.camera import Camera, LiveReader

_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}
_BAR: Final = 8
_RATE_OVER: Final = 30  # pictures
_DRAWN_S: Final = 1 / 15


def refuse(camera: str | None, given: Mapping[str, object]) -> None:
    """Refuses options that make no sense with a camera.

    Args:
        camera: What was given as ``--camera``; None if it was not.
        given: The options, by name, with their values.

    Raises:
        UsageError: One of them was given, or the camera was not.
    """
    if camera is None:
        raise UsageError("--for tells how long to watch a camera: add --camera 0, or leave it out")
    if wrong := [name for name, value in given.items() if value not in (None, False, [], ())]:
        raise UsageError(f"--camera goes without {' and '.join(wrong)}: it reads nothing else, and only once")


def watch_camera(
    source: str,
    seconds: str | None,
    model: tuple[str, str, str, str, int | None, str | None],
    faces: tuple[str, int | None, str],
    every: str | None,
    smooth: float | None,
    files: Mapping[str, str | None],
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Classifies what a camera shows.

    Args:
        source: See ``Camera.open``.
        seconds: For how long, as ``duration`` takes it; None until it is interrupted.
        model: Bundle, backend, precision, device, threads, test-time augmentation.
        faces: How pictures are taken, the smallest face, and what looks for faces.
        every: Which pictures are looked at; None for as many as can be.
        smooth: In seconds; None for the usual.
        files: ``output``, ``annotate``, ``plot`` and ``report``.
        overwrite: Whether these are replaced.
        as_json: Whether standard output gets JSON Lines.
        quiet: Whether standard error gets nothing.

    Returns:
        1 if the camera failed on the way, else 0.
    """
    from fer_deploy.backends.select import open_backend
    from fer_deploy.bundle.manifest import Bundle
    from fer_deploy.cli.outputs import exit_codes
    from fer_deploy.images.sources import Sources
    from fer_deploy.inference.run import Summary, run
    from fer_deploy.video.camera import Camera

    warnings.filterwarnings("ignore", module="PIL")
    limit, (bundle, backend, precision, device, threads, tta) = duration(seconds), model
    outputs = _outputs(source, files, overwrite, as_json)
    look, photos = _look(*faces, threads)
    on_stdout = sys.stdout.isatty() and (as_json or files["output"] == "-")
    with Camera.open(source) as camera:
        reader = _reader(camera, look, every, smooth, limit)
        if annotate := files["annotate"]:
            outputs.record(annotate, reader)
        with open_backend(Bundle.load(bundle), backend, precision, device, threads, tta) as opened:
            summary = Summary(opened)
            if files["report"]:
                outputs.report(files["report"], opened, summary, reader)
            try:
                with exit_codes(False), _ended_by_signals(camera.stop), line(reader, quiet or on_stdout) as draw:
                    run(Sources([reader.source]), opened, outputs.targets, summary, 1, draw)
            finally:
                if photos is not None:
                    summary.searched(photos)
                if not quiet:
                    _report(camera, summary)
    if not quiet:
        print("\n".join(outputs.lines()), end="\n" * bool(outputs.lines()), file=sys.stderr)
    return summary.failed


def duration(text: str | None) -> float | None:
    """Reads ``10s``, ``5m``, ``1h`` or ``90`` as seconds.

    Raises:
        UsageError: It is none of these, or 0.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)([smh]?)", text.strip())
    if found and (seconds := float(found[1]) * _SECONDS[found[2]]) > 0:
        return seconds
    raise UsageError(f"--for {text!r} is no time: give seconds (10s), minutes (5m) or hours (1h), more than 0")


def _outputs(source: str, files: Mapping[str, str | None], overwrite: bool, as_json: bool) -> Outputs:
    """Makes what the rows go to, and refuses what cannot be, before a camera is opened."""
    from fer_deploy.cli.outputs import Outputs
    from fer_deploy.video.camera import name_of

    outputs = Outputs([name_of(source)], files["output"], overwrite, False, as_json, False, live=True)
    if annotate := files["annotate"]:
        from fer_deploy.video.writer import check_recording

        check_recording(annotate, overwrite)
    if plot := files["plot"]:
        outputs.plot(plot)
    return outputs


def _look(
    face: str, smallest: int | None, detector: str, threads: int | None
) -> tuple[Callable[[Any], Any], PhotoReader | None]:
    """Gives what takes pictures, and what looks for faces in them, if anything does."""
    from fer_deploy.images.decode import from_array
    from fer_deploy.inference.face_reader import photo_reader

    photos = photo_reader(face, detector, smallest, threads)
    return (from_array if photos is None else photos.live), photos


def _reader(
    camera: Camera, look: Callable[[Any], Any], every: str | None, smooth: float | None, limit: float | None
) -> LiveReader:
    from fer_deploy.video.camera import LiveReader
    from fer_deploy.video.tracking import DEFAULT_S

    return LiveReader(camera, look, every, DEFAULT_S if smooth is None else smooth, limit)


@contextmanager
def _ended_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Has Ctrl-C and SIGTERM end the run as if the camera ended; a second Ctrl-C interrupts as ever."""

    def end(number: int, frame: Any) -> None:
        stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(camera: Camera, summary: Summary) -> None:
    print("\n".join(summary.lines()), file=sys.stderr)
    if camera.dropped:
        print(f"{camera.dropped:,} of {camera.read:,} pictures dropped for newer ones", file=sys.stderr)


@contextmanager
def line(reader: LiveReader, hidden: bool) -> Iterator[Callable[[], None]]:
    """Shows on a terminal's stderr what the camera shows, in one line that is rewritten; gives what redraws it."""
    if hidden or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.live import Live

    shown: deque[float] = deque(maxlen=_RATE_OVER)
    drawn = 0.0
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:

        def draw() -> None:
            nonlocal drawn
            shown.append(time.monotonic())
            if reader.last and shown[-1] - drawn >= _DRAWN_S:
                drawn = shown[-1]
                rate = (len(shown) - 1) / max(shown[-1] - shown[0], 1e-9)
                live.update(reported(reader.last, rate, reader.age_s), refresh=True)

        yield draw


def reported(rows: list[Prediction], images_per_s: float, age_s: float) -> Text:
    """Puts a picture's rows into a line: time, speed, age, and each track's emotion with a bar and its confidence."""
    from rich.text import Text

    seconds = int(rows[0].time_s or 0)
    faces = [row for row in rows if row.status == OK]
    count = f"{len(faces)} face{'' if len(faces) == 1 else 's'}"
    speed = f"{f'{images_per_s:.1f} images/s, ' if images_per_s else ''}{1000 * age_s:.0f} ms old"
    text = Text(f"{seconds // 60}:{seconds % 60:02}  {speed}  {count}", no_wrap=True, overflow="ellipsis")
    for row in sorted(faces, key=lambda row: row.track or 0):
        confidence = row.confidence or 0.0
        text.append(f"  {row.track} ", "dim")
        text.append(row.emotion or "", "bold")
        text.append(f" {'━' * round(_BAR * confidence):{_BAR}} {100 * confidence:.0f} %")
    return text
