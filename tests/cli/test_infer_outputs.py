"""What ``fer-deploy infer`` writes besides its table, and how it goes on after a kill."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_deploy.bundle.manifest import Bundle

ROOT = Path(__file__).parents[2]
Infer = Any


@pytest.fixture(scope="module")
def infer(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Infer:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")), "PYTHONPATH": str(ROOT)}

    def run(*arguments: object, shell: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        line = [
            *shell,
            sys.executable,
            "-m",
            "fer_deploy",
            "infer",
            "--bundle",
            str(tiny_bundle.path),
            *map(str, arguments),
        ]
        return subprocess.run(line, capture_output=True, text=True, env=environment, timeout=120, check=False)

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index in range(40):
        path = tmp_path / "photos" / "ab"[index % 2] / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (48, 48), dtype=np.uint8)).save(path)
    (tmp_path / "photos/bad.png").write_text("no picture")
    return tmp_path / "photos"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def refused(done: subprocess.CompletedProcess[str], reason: str) -> None:
    assert done.returncode == 2
    assert reason in re.sub(r"[\s│]+", " ", done.stderr)
    assert "Traceback" not in done.stderr


def test_a_table_needs_no_standard_output(infer: Infer, photos: Path, tmp_path: Path) -> None:
    done = infer(photos, "-o", tmp_path / "t.csv", shell=["sh", "-c", '"$@" >&-', "sh"])
    assert (done.returncode, len(table(tmp_path / "t.csv"))) == (0, 41), done.stderr


def test_everything_at_once(infer: Infer, photos: Path, tmp_path: Path) -> None:
    done = infer(
        *(photos, "--output", tmp_path / "x.csv", "--report", tmp_path / "x.html", "--annotate", tmp_path / "drawn"),
        *("--only", "happy,sad", "--min-confidence", "0.3", "--copy-to", tmp_path / "sorted"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    rows = table(tmp_path / "x.csv")
    good = [row for row in rows if row["status"] == "ok"]
    assert (len(rows), len(good)) == (41, 40)
    assert below(tmp_path / "drawn") == sorted(str(Path(row["path"]).relative_to(photos)) for row in good)
    wanted = [row for row in good if row["emotion"] in ("happy", "sad") and float(row["confidence"]) >= 0.3]
    expected = sorted(f"{row['emotion']}/{Path(row['path']).relative_to(photos)}" for row in wanted)
    assert below(tmp_path / "sorted") == expected
    assert expected
    (data,) = re.findall(r'id="data">(.*?)</script>', (tmp_path / "x.html").read_text())
    reported = json.loads(data)
    assert (reported["counts"]["faces"], reported["counts"]["failed"]) == (40, 1)
    assert [row["path"] for row in reported["rows"]] == [row["path"] for row in good]
    assert all("picture" in row for row in reported["rows"])
    assert f"{len(expected)} copies in {tmp_path / 'sorted'}" in done.stderr
    assert f"report: {tmp_path / 'x.html'}" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drawn", "photos", "sorted", "x.csv", "x.html"]


def test_a_list_is_paths_and_nothing_else(infer: Infer, photos: Path, tmp_path: Path) -> None:
    done = infer(photos, "--list", "--output", tmp_path / "x.csv")
    assert done.stdout.splitlines() == [row["path"] for row in table(tmp_path / "x.csv") if row["status"] == "ok"]
    none = infer(photos, "--list", "--min-confidence", "1", "--quiet")
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "")


def test_what_does_not_go_together(infer: Infer, photos: Path, tmp_path: Path) -> None:
    refused(infer(photos, "--only", "happy"), "--only and --min-confidence choose what")
    refused(infer(photos, "--only", "glad", "--list"), "There is no emotion 'glad'")
    refused(infer(photos, "--min-confidence", "80", "--list"), "lies between 0 and 1")
    refused(infer(photos, "--list", "--json"), "--json and --list both write to standard output")
    refused(infer(photos, "--resume"), "--resume goes on with a file")
    refused(infer(photos, "--resume", "--overwrite", "--output", tmp_path / "x.csv"), "leave --overwrite out")
    refused(infer(photos, "--copy-to", photos / "happy"), "which is read")
    refused(infer(photos, "--annotate", photos), "which is read")
    refused(infer(photos, "--report", tmp_path / "x.pdf"), "must end in .html")
    (tmp_path / "mine.html").write_text("mine")
    refused(infer(photos, "--report", tmp_path / "mine.html"), "exists already")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.html", "photos"]


def test_resuming(infer: Infer, photos: Path, tmp_path: Path) -> None:
    output, resume_state = tmp_path / "x.csv", tmp_path / "x.csv.resume.json"
    assert infer(photos, "--output", output, "--resume").returncode == 0  # nothing there yet: as without
    whole = output.read_text()
    assert not resume_state.exists()
    done = infer(photos, "--output", output, "--resume")
    assert (done.returncode, output.read_text()) == (0, whole)
    assert "is complete: there is nothing to resume" in done.stderr

    # what a kill leaves: the journal, and a table cut inside a row
    resume_state.write_text(json.dumps(settings_of(infer, photos, tmp_path)))
    output.write_text(whole[: len(whole) // 2])
    refused(infer(photos, "--output", output), "exists already; choose another name, add --resume to go on with it")
    refused(infer(photos, "--output", output, "--resume", "--backend", "onnx"), "was begun with backend openvino")
    refused(
        infer(photos, "--output", output, "--resume", "--tta", "flip"), "was begun with tta not given, and now it is"
    )
    (photos / "a/000-new.png").write_bytes((photos / "a/00.png").read_bytes())
    refused(infer(photos, "--output", output, "--resume"), "files were added")
    assert output.read_text() == whole[: len(whole) // 2]
    (photos / "a/000-new.png").unlink()

    done = infer(photos, "--output", output, "--resume", "--report", tmp_path / "x.html")
    assert done.returncode == 0, done.stderr
    assert [row["path"] for row in table(output)] == [line["path"] for line in csv.DictReader(whole.splitlines())]
    assert "of them done before" in done.stderr
    assert '"faces":40' in (tmp_path / "x.html").read_text()
    assert not resume_state.exists()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_resuming_what_is_complete(infer: Infer, photos: Path, tmp_path: Path, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    output = tmp_path / f"x.{suffix}"
    assert infer(photos, "--output", output, "--strict").returncode == 1
    whole = output.read_bytes()
    assert infer(photos, "--output", output, "--resume").returncode == 0
    assert infer(photos, "--output", output, "--resume", "--strict").returncode == 1
    more = ("--report", tmp_path / "x.html", "--list")
    refused(
        infer(photos, "--output", output, "--resume", *more),
        "is complete already, and --resume would read nothing for --report and --list: leave --resume out",
    )
    assert output.read_bytes() == whole
    assert not (tmp_path / "x.html").exists()


def settings_of(infer: Infer, photos: Path, tmp_path: Path) -> Any:
    """Gets a journal by stopping a run: its report cannot be written in the end."""
    (tmp_path / "away").mkdir()
    done = infer(photos, "--output", tmp_path / "z.csv", "--report", tmp_path / "away" / ("x" * 250 + ".html"))
    assert done.returncode == 2
    return json.loads((tmp_path / "z.csv.resume.json").read_text())


def test_another_file_is_not_taken_for_a_table(infer: Infer, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("name,mail\na,b\n")
    refused(infer(photos, "--output", tmp_path / "mine.csv", "--resume"), "is no table of ours")
    assert (tmp_path / "mine.csv").read_text() == "name,mail\na,b\n"


@pytest.mark.parametrize(
    ("suffix", "content"),
    [("csv", ["--images", "400"]), ("parquet", ["--images", "400"]), ("csv", ["--images", "20", "--clip", "60"])],
)
def test_killed_and_resumed(tiny_bundle: Bundle, suffix: str, content: list[str]) -> None:
    """The short form of ``tests/tools/kill_and_resume.py``: among pictures, and in the middle of a video."""
    if "--clip" in content:
        pytest.importorskip("av", reason="PyAV is not installed: pip install 'fer-deploy[video]'")
    tool = ROOT / "tests/tools/kill_and_resume.py"
    options = [*content, "--kills", "2", "--suffix", suffix, f"--option=--bundle={tiny_bundle.path}"]
    done = subprocess.run([sys.executable, str(tool), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 resumed tables equal" in done.stdout
