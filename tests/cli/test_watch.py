"""``fer-deploy infer --camera``, with a stream through a named pipe in place of a camera."""

from __future__ import annotations

import csv
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from fer_deploy.bundle.manifest import Bundle
from fer_deploy.cli import app
from fer_deploy.cli.watch import duration, reported
from fer_deploy.errors import CameraError, FerDeployError, UsageError
from fer_deploy.inference.prediction import Prediction
from fer_deploy.video.reader import Video

PORTRAIT = Path(__file__).parents[1] / "faces/astronaut.jpg"


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    """A pipe that gives twenty pictures per second for up to a minute, as long as they are read."""
    av: Any = pytest.importorskip("av", reason="PyAV is not installed: pip install 'fer-deploy[video]'")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        options = {"preset": "ultrafast", "tune": "zerolatency"}
        with pipe.open("wb") as file, Image.open(PORTRAIT) as image, av.open(file, "w", format="mpegts") as container:
            made = container.add_stream("libx264", rate=20, options=options)
            made.width, made.height, made.pix_fmt = 320, 240, "yuv420p"
            made.codec_context.gop_size = 5
            for n in range(1200):
                frame = image.convert("RGB").crop((60 + n % 40, 20, 380 + n % 40, 260))
                container.mux(made.encode(av.VideoFrame.from_image(frame)))
                time.sleep(0.05)

    def write_while_read() -> None:
        try:
            write()
        except OSError:  # the reader has seen enough
            return

    Thread(target=write_while_read, daemon=True).start()
    return pipe


def lines_of(descriptor: int) -> str:
    """Reads what came out of a terminal."""
    content = b""
    while True:
        try:
            content += os.read(descriptor, 1 << 16)
        except OSError:  # all who wrote have ended
            return content.decode()


def test_ctrl_c_ends_it_with_whole_files_and_a_summary(stream: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'fer-deploy[train]'")
    csv_file, video, plot, page = (tmp_path / f"x.{suffix}" for suffix in ("csv", "mp4", "png", "html"))
    options = ["--output", csv_file, "--annotate", video, "--plot", plot, "--report", page, "--face", "crop", "--json"]
    line = [sys.executable, "-m", "fer_deploy", "infer", "--bundle", tiny_bundle.path, "--camera", stream, *options]
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "COLUMNS": "100"}
    env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*map(str, line)], stdout=subprocess.PIPE, stderr=theirs, env=env)
    os.close(theirs)
    assert process.stdout is not None
    first = [json.loads(process.stdout.readline()) for _ in range(3)]
    assert csv_file.read_text().count("\n") >= 3  # the header and all rows but the one that may be under way
    process.send_signal(signal.SIGINT)
    rows = first + [json.loads(text) for text in process.stdout.read().splitlines()]
    said = lines_of(ours)
    assert process.wait(60) == 0, said
    os.close(ours)

    assert [row["status"] for row in rows] == ["ok"] * len(rows)
    assert [row["frame"] for row in rows] == sorted({row["frame"] for row in rows})
    assert {row["track"] for row in rows} == {0}
    with csv_file.open(newline="") as file:
        assert [row["frame"] for row in csv.DictReader(file)] == [str(row["frame"]) for row in rows]
    with Video(str(video)) as copy:
        assert len(list(copy.frames())) == len(rows)
    assert plot.stat().st_size > 1000
    assert f'"faces":{len(rows)},' in page.read_text()
    assert page.read_text().count('"picture":"') == len(rows)
    for part in ("images/s", "ms old", "1 face", " %", "\x1b[2K"):  # the line, and that it is rewritten
        assert part in said
    assert f"{len(rows)} pictures in" in said
    assert f"recorded: {video}" in said.replace("\r\n", "\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "pipe", "x.csv", "x.html", "x.mp4", "x.png"]


def test_for_some_seconds_as_csv_on_stdout(stream: Path, tiny_bundle: Bundle) -> None:
    line = ["infer", "--bundle", str(tiny_bundle.path), "--camera", str(stream), "--face", "crop", "--every", "0.2s"]
    done = CliRunner().invoke(app, [*line, "--for", "1s", "--output", "-", "--quiet"], catch_exceptions=False)
    assert (done.exit_code, done.stderr) == (0, "")
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert rows
    assert {row["path"] for row in rows} == {str(stream)}
    assert len(rows) <= 6


def test_from_python(stream: Path, tiny_bundle: Bundle) -> None:
    from fer_deploy import Classifier

    with Classifier.load(tiny_bundle) as classifier:
        rows = []
        for row in classifier.stream_camera(str(stream), smooth_s=0, face="crop"):
            rows.append(row)
            if len(rows) == 3:
                break
        assert [(row.status, row.track) for row in rows] == [("ok", 0)] * 3
        assert [row.time_s for row in rows] == sorted({row.time_s for row in rows})
        with pytest.raises(CameraError, match="no camera 97"):
            next(classifier.stream_camera(97))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--camera", "0", "a.png"], "--camera goes without PATH"),
        (["--camera", "0", "--output", "x.csv", "--resume"], "goes without --resume"),
        (["--camera", "0", "--only", "happy", "--copy-to", "x"], "goes without --copy-to and --only"),
        (["--camera", "0", "--list"], "goes without --list"),
        (["--camera", "0", "--batch", "4"], "goes without --batch"),
        (["--camera", "0", "--for", "soon"], "--for 'soon' is no time"),
        (["--camera", "0", "--annotate", "folder"], "must end in .mp4 with --camera"),
        (["--camera", "0", "--json", "--output", "-"], "both write to standard output"),
        (["--for", "10s", "a.png"], "add --camera 0"),
        ([], "give pictures, videos or folders, or --camera 0"),
    ],
)
def test_what_does_not_go_together_is_one_line(arguments: list[str], part: str) -> None:
    error = CliRunner().invoke(app, ["infer", *arguments]).exception
    assert isinstance(error, UsageError)
    assert part in str(error)
    assert "\n" not in str(error)


def test_without_a_camera(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'fer-deploy[video]'")
    error = CliRunner().invoke(app, ["infer", "--camera", "97", "--output", str(tmp_path / "x.csv")]).exception
    assert isinstance(error, FerDeployError)
    assert error.exit_code == 2
    assert "no camera 97 here" in str(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("text", "seconds"), [("10s", 10), ("1.5", 1.5), ("2m", 120), (" 1h ", 3600), (None, None)])
def test_durations(text: str | None, seconds: float | None) -> None:
    assert duration(text) == seconds


def test_the_line() -> None:
    def face(track: int, emotion: str, confidence: float) -> Prediction:
        return Prediction("camera 0", emotion, confidence, time_s=75.4, frame=9, track=track)

    line = reported([face(2, "happy", 0.93), face(0, "sad", 0.5)], 14.84, 0.0481)
    assert line.plain == "1:15  14.8 images/s, 48 ms old  2 faces  0 sad ━━━━     50 %  2 happy ━━━━━━━  93 %"
    assert reported([Prediction.of_no_face("camera 0")], 1, 0).plain.endswith("0 faces")
