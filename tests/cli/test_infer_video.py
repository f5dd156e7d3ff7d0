"""``fer-deploy infer clip.mp4``, in a process of its own."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_deploy.bundle.manifest import Bundle
from fer_deploy.faces.networks import is_installed
from fer_deploy.video.reader import Video

PORTRAIT = Path(__file__).parents[1] / "faces/astronaut.jpg"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def infer(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Run:
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])

    def run(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "fer_deploy", "infer", "--bundle", str(tiny_bundle.path), *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, env=env | more, timeout=120, check=False)

    return run


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a face that goes left, ten pictures per second."""
    av: Any = pytest.importorskip("av", reason="PyAV is not installed: pip install 'fer-deploy[video]'")
    path = tmp_path_factory.mktemp("clips") / "clip.mkv"
    with Image.open(PORTRAIT) as image, av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.gop_size = 5
        for n in range(20):
            frame = image.convert("RGB").crop((60 + 2 * n, 20, 380 + 2 * n, 260))
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode(None))
    return path


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.skipif(not is_installed(), reason="CenterFace is not installed: pip install 'fer-deploy[faces]'")
def test_a_face_is_followed_in_every_format_of_output(infer: Run, clip: Path, tmp_path: Path) -> None:
    done = infer(clip, "--every", "0.5s", "--output", tmp_path / "x.csv")
    assert done.returncode == 0, done.stderr
    rows = rows_of((tmp_path / "x.csv").read_text())
    first = [row for row in rows if row["face"] == "0"]
    assert [(row["time_s"], row["frame"]) for row in first] == [
        ("0.0", "0"),
        ("0.5", "5"),
        ("1.0", "10"),
        ("1.5", "15"),
    ]
    assert {row["track"] for row in first} == {"0"}
    assert [int(row["x"]) for row in first] == pytest.approx([120, 110, 100, 90], abs=15)
    assert all(row["path"] == str(clip) and row["status"] == "ok" and row["emotion"] for row in rows)
    assert "in 4 searched pictures" in done.stderr
    assert "1 video, " in done.stderr

    assert rows_of(infer(clip, "--output", "-").stdout) == rows
    reported = json.loads(infer(clip, "--json", "--quiet").stdout)
    assert [str(row["track"]) for row in reported["rows"]] == [row["track"] for row in rows]
    assert (reported["summary"]["videos"], reported["summary"]["photos"]) == (1, 4)

    resumed = infer(clip, "--output", tmp_path / "x.csv", "--resume")
    assert "is complete" in resumed.stderr


def test_clips_among_pictures_and_a_truncated_one(infer: Run, clip: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.mkv").write_bytes(clip.read_bytes()[: clip.stat().st_size * 6 // 10])
    (tmp_path / "c.mp4").write_text("no video")
    more = ("--output", "-", "--strict", "--annotate", tmp_path.with_name("drawn"))
    done = infer(tmp_path, "--face", "crop", "--every", "5f", "--smooth", "0", *more)
    assert done.returncode == 1
    assert sorted(path.name for path in tmp_path.with_name("drawn").iterdir()) == ["a.png", "b.mkv.mp4"]
    rows = rows_of(done.stdout)
    names = [Path(row["path"]).name for row in rows]
    assert names == ["a.png", *["b.mkv"] * (len(rows) - 2), "c.mp4"]
    assert [row["status"] for row in rows] == ["ok"] * (len(rows) - 2) + ["error"] * 2
    assert [row["frame"] for row in rows[1:3]] == ["0", "5"]
    assert {row["track"] for row in rows[1:-2]} == {"0"}
    assert "2 failed" in done.stderr


def test_settings_that_make_no_sense_are_one_line(infer: Run, tmp_path: Path) -> None:
    for option, value in (("--every", "often"), ("--smooth", "-1")):
        done = infer(tmp_path, option, value)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert option in done.stderr


def test_without_pyav(infer: Run, tmp_path: Path) -> None:
    """In a folder, a video costs a row; one that is asked for by name is refused."""
    (tmp_path / "no/av").mkdir(parents=True)
    (tmp_path / "no/av/__init__.py").write_text("raise ImportError('not here')")
    path = os.pathsep.join([str(tmp_path / "no"), str(Path(__file__).parents[2])])
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.mp4").write_text("any")
    done = infer(tmp_path / "clips", "--output", "-", PYTHONPATH=path)
    (row,) = rows_of(done.stdout)
    assert (done.returncode, row["status"]) == (0, "error")
    assert "pip install 'fer-deploy[video]'" in row["reason"]
    named = infer(tmp_path / "clips/a.mp4", PYTHONPATH=path)
    assert (named.returncode, len(named.stderr.splitlines())) == (2, 1)
    assert "pip install 'fer-deploy[video]'" in named.stderr


def test_from_python(clip: Path, tiny_bundle: Bundle) -> None:
    from fer_deploy import Classifier

    with Classifier.load(tiny_bundle) as classifier:
        rows = list(classifier.stream_video(clip, every="5f", smooth_s=0, face="crop"))
        assert [(row.frame, row.track, row.status) for row in rows] == [(n, 0, "ok") for n in (0, 5, 10, 15)]
        assert [row.frame for row in classifier.predict([str(clip)], face="crop")] == [0, 5, 10, 15]
        with Video(str(clip)) as video:
            pixels = [frame.pixels() for frame in video.frames()][::5]
        np.testing.assert_allclose(
            [row.probabilities for row in rows], classifier.predict(pixels).probabilities, atol=1e-5
        )
