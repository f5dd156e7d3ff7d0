"""``fer-deploy infer --face``, in a process of its own."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_deploy.bundle.manifest import Bundle
from fer_deploy.faces.networks import is_installed

PORTRAIT = Path(__file__).parents[1] / "faces/astronaut.jpg"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def infer(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Run:
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    env["PYTHONPATH"] = str(Path(__file__).parents[2])

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "fer_deploy", "infer", "--bundle", str(tiny_bundle.path), *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, env=env, timeout=120, check=False)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A face of 48x48 pixels, a photo with a face, and one without."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (48, 48), dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(PORTRAIT.read_bytes())
    Image.fromarray(rng.integers(0, 256, (200, 400, 3), dtype=np.uint8)).save(tmp_path / "c.png")
    return tmp_path


@pytest.mark.skipif(not is_installed(), reason="CenterFace is not installed: pip install 'fer-deploy[faces]'")
def test_rows_and_summary_of_photos(infer: Run, folder: Path, tmp_path: Path) -> None:
    done = infer(folder, "--output", "-")
    assert done.returncode == 0, done.stderr
    face, portrait, none = csv.DictReader(done.stdout.splitlines())
    assert (face["status"], face["face"], face["x"]) == ("ok", "", "")
    assert (portrait["status"], portrait["face"]) == ("ok", "0")
    assert [int(portrait[name]) for name in ("x", "y", "width", "height")] == pytest.approx([180, 62, 90, 115], abs=20)
    assert 0.5 < float(portrait["face_score"]) <= 1
    assert (none["status"], none["emotion"], none["face"]) == ("no-face", "", "")
    assert "3 pictures in" in done.stderr
    assert "1 face in 2 photos, none in 1" in done.stderr
    reported = json.loads(infer(folder, "--face", "detect", "--json", "--quiet").stdout)["summary"]
    assert (reported["photos"], reported["failed"]) == (3, 0)


def test_crop_takes_all_as_faces(infer: Run, folder: Path) -> None:
    done = infer(folder, "--face", "crop", "--output", "-", "--quiet")
    assert [(row["status"], row["face"]) for row in csv.DictReader(done.stdout.splitlines())] == [("ok", "")] * 3


def test_without_the_extra_the_pip_line_is_told(infer: Run, folder: Path) -> None:
    if is_installed():
        pytest.skip("CenterFace is installed here; tests/inference/test_photos.py has the same without it")
    auto, detect = infer(folder, "--output", "-"), infer(folder, "--face", "detect")
    assert "all were taken as faces, none searched for them" in auto.stderr
    assert "pip install 'fer-deploy[faces]'" in auto.stderr
    assert detect.returncode == 2
    assert detect.stderr.startswith("fer-deploy: What finds faces in photos")


def test_a_detector_from_a_file(infer: Run, yellow_grids: Callable[..., bytes], tmp_path: Path) -> None:
    (tmp_path / "yunet.onnx").write_bytes(yellow_grids(alive=32))
    image = np.zeros((300, 400, 3), np.uint8)
    image[128:160, 192:224] = (255, 255, 0)
    Image.fromarray(image).save(tmp_path / "a.png")
    table = tmp_path / "x.csv"
    done = infer(tmp_path / "a.png", "--detector", tmp_path / "yunet.onnx", "--output", table)
    assert done.returncode == 0, done.stderr
    assert "1 face in 1 photo; yunet looked for them\n" in done.stderr
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert abs(float(row["x"]) + float(row["width"]) / 2 - 208) < 16
    reported = infer(tmp_path / "a.png", "--detector", tmp_path / "none.onnx", "--output", tmp_path / "y.csv")
    assert (reported.returncode, reported.stderr.count("\n")) == (2, 1)
    assert "there are: auto, centerface, yunet, or an ONNX file" in reported.stderr
    both = infer(tmp_path / "a.png", "--detector", tmp_path / "yunet.onnx", "--face", "crop")
    assert (both.returncode, both.stderr.count("\n")) == (2, 1)
    assert "--face crop does not" in both.stderr


def test_a_wrong_way_is_refused(infer: Run, folder: Path) -> None:
    done = infer(folder, "--face", "guess")
    assert done.returncode == 2
    assert "'guess'" in done.stderr
    assert "auto, detect, crop" in done.stderr
