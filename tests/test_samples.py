"""The pictures in samples/: each readable, each with its origin and licence written down."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SAMPLES = Path(__file__).parents[1] / "samples"
IMAGES = sorted(path.relative_to(SAMPLES).as_posix() for path in SAMPLES.rglob("*") if path.suffix in (".jpg", ".png"))


@pytest.mark.parametrize("name", [*IMAGES, "faces.zip"])
def test_origin_and_licence_are_stated(name: str) -> None:
    (row,) = (line for line in (SAMPLES / "README.md").read_text().splitlines() if line.startswith(f"| `{name}` |"))
    assert row.endswith(("(MIT) |", "public domain |", "government) |", 'restrictions") |'))


@pytest.mark.parametrize("name", IMAGES)
def test_pictures_are_square_and_as_the_readme_says(name: str) -> None:
    with Image.open(SAMPLES / name) as image:
        image.load()
        assert image.width == image.height
        assert image.mode in ("L", "RGB")
        assert f"`{name}` | {image.width}x{image.width}, " in (SAMPLES / "README.md").read_text()


def test_all_is_small() -> None:
    assert len(IMAGES) == 8
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()) < 300_000


def test_the_script_draws_the_same_again(tmp_path: Path) -> None:
    """Scaling may differ by a shade between versions of Pillow."""
    (tmp_path / "draw.py").write_bytes((SAMPLES / "draw.py").read_bytes())
    subprocess.run([sys.executable, tmp_path / "draw.py"], check=True)
    pairs = [(SAMPLES / name, tmp_path / name) for name in IMAGES if name.startswith("drawn/")]
    with zipfile.ZipFile(SAMPLES / "faces.zip") as old, zipfile.ZipFile(tmp_path / "faces.zip") as new:
        assert old.namelist() == new.namelist() == ["fear.png", "disgust.png"]
        pairs += [(io.BytesIO(old.read(name)), io.BytesIO(new.read(name))) for name in old.namelist()]
    assert len(pairs) == 7
    for shipped, drawn in pairs:
        first, second = (np.asarray(Image.open(file)).astype(int) for file in (shipped, drawn))
        assert np.abs(first - second).mean() < 1
