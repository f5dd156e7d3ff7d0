from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from fer_deploy.cli import app
from fer_deploy.data.convert import convert
from fer_deploy.data.fer2013 import PRIVATE, PUBLIC, TRAINING, Fer2013, Partition


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small FER-2013 with one blank picture, one duplicate, in several forms."""
    base = tmp_path_factory.mktemp("fer")
    rng = np.random.default_rng(3)
    partitions = {}
    for name, count in ((TRAINING, 14), (PUBLIC, 7), (PRIVATE, 7)):
        labels = np.arange(count, dtype=np.uint8) % 7
        images = rng.integers(0, 256, (count, 48, 48), np.uint8)
        partitions[name] = Partition(images, labels, tuple(f"{name}_{index:05d}" for index in range(count)))
    partitions[TRAINING].images[1] = 0
    partitions[TRAINING].images[3] = partitions[PUBLIC].images[3]
    data = Fer2013(Path("made"), "csv", partitions)
    for target in ("fer.zip", "fer.csv", "fer.csv.gz", "folder"):
        convert(data, base / target)
    bad = (base / "fer.csv").read_text().splitlines()
    bad[4] = bad[4].replace(",", ",300 ", 1)
    (base / "bad.csv").write_text("\n".join(bad))
    return {path.name: path for path in base.iterdir()}


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, ["data", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def failure(*arguments: str | Path) -> str:
    """Runs the installed program's own way in, since that is where errors become one line; returns the line."""
    command = [sys.executable, "-c", "from fer_deploy.cli import main; main()", "data", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fer-deploy: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_info_shows_counts_bars_and_what_is_odd(sources: dict[str, Path]) -> None:
    shown = run("info", sources["fer.zip"]).stdout
    assert "█" in shown
    assert "│ total    │    14 │      7 │       7 │ 100.0% │" in shown
    assert "1 (Training/Training_00001)" in shown
    assert "1 in train-public" in shown
    assert "Training has 14 pictures, the published set 28,709" in shown


def test_info_as_json_is_the_same_for_all_forms(sources: dict[str, Path]) -> None:
    seen = {}
    for name in ("fer.zip", "folder", "fer.csv", "fer.csv.gz"):
        result = run("info", sources[name], "--json")
        assert result.stderr == ""
        seen[name] = json.loads(result.stdout)
    first = seen["fer.zip"]
    assert first["schema"] == 1
    assert first["machine"]["python"]
    assert first["rows"][1] == {"class": "disgust", "train": 2, "public": 1, "private": 1}
    assert first["rows"][-1] == {"class": "total", "train": 14, "public": 7, "private": 7}
    assert first["duplicates"]["across"] == {"train-public": 1, "train-private": 0, "public-private": 0}
    for other in seen.values():
        for key in ("rows", "fingerprints", "duplicates", "blank"):
            assert other[key] == first[key]


def test_a_bad_row_is_one_line_or_is_left_out(sources: dict[str, Path]) -> None:
    said = failure("info", sources["bad.csv"])
    assert "bad.csv, line 5: the row has 2305 pixels, expected 2304 (48 x 48). Repair it, or go on" in said
    shown = run("info", sources["bad.csv"], "--skip-bad").stdout
    assert "Left out line 5: the row has 2305 pixels" in shown
    found = json.loads(run("info", sources["bad.csv"], "--skip-bad", "--json").stdout)
    assert found["skipped"] == [{"where": "line 5", "reason": "the row has 2305 pixels, expected 2304 (48 x 48)"}]
    assert found["rows"][-1]["train"] == 13


def test_convert_there_and_back(sources: dict[str, Path], tmp_path: Path) -> None:
    assert "pictures: 28 pictures as folder" in run("convert", sources["fer.zip"], tmp_path / "pictures").stdout
    assert "28 pictures as csv.gz" in run("convert", tmp_path / "pictures", tmp_path / "x", "--form", "csv.gz").stdout
    run("convert", tmp_path / "x", tmp_path / "fer.zip")
    assert (tmp_path / "fer.zip").read_bytes() == sources["fer.zip"].read_bytes()
    shown = run("convert", sources["bad.csv"], tmp_path / "fer.zip", "--skip-bad", "--overwrite").stdout
    assert "27 pictures as zip, 1 bad left out" in shown


def test_convert_refuses_before_it_reads(sources: dict[str, Path], tmp_path: Path) -> None:
    assert "fer.csv exists already" in failure("convert", "no-such.zip", sources["fer.csv"])
    assert "does not tell what to write" in failure("convert", "no-such.zip", tmp_path / "x.json")
    assert "no-such.zip does not exist" in failure("convert", "no-such.zip", tmp_path / "x.csv")
    assert not list(tmp_path.iterdir())


def test_preview(sources: dict[str, Path], tmp_path: Path) -> None:
    run("preview", sources["fer.zip"], "--output", tmp_path / "grid.png", "--per-class", "2", "--partition", "Test")
    assert Image.open(tmp_path / "grid.png").size == (332, 752)
    assert "expected" not in failure("preview", sources["fer.zip"], "--output", tmp_path / "x.txt")
    assert "'train' is unknown" in failure("preview", "x", "--output", tmp_path / "x.png", "--partition", "train")


@pytest.mark.parametrize("command", ["info", "convert", "preview"])
def test_help_has_examples(command: str) -> None:
    assert f"fer-deploy data {command} " in run(command, "--help").stdout
