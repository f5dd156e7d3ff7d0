"""The shipped model is as good as its record and its card say, through the command that users run."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from fer_deploy.bundle import Bundle
from fer_deploy.labels import LABELS

ROOT = Path(__file__).parents[1]
CARD = ROOT / "train/MODEL_CARD.md"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


def test_it_has_the_promised_network(bundle: Bundle) -> None:
    assert bundle.training["layers"] == 38
    assert bundle.find("keras")
    assert bundle.find("onnx", "fp32")


def test_card_and_record_agree(bundle: Bundle) -> None:
    card = CARD.read_text(encoding="utf-8")
    for name, accuracy in bundle.training["accuracy"].items():
        row = re.search(rf"^\| {name} \| [\d,]+ \| ([\d.]+) %", card, re.MULTILINE)
        assert row, f"the model card has no row for {name}"
        assert float(row[1]) == round(100 * accuracy, 2)


@pytest.mark.fer2013
def test_infer_over_the_test_folder_gives_the_recorded_accuracy(
    bundle: Bundle, fer2013_path: Path, tmp_path: Path
) -> None:
    if fer2013_path.is_file():
        with zipfile.ZipFile(fer2013_path) as archive:
            archive.extractall(tmp_path / "fer", [name for name in archive.namelist() if "test/" in name])
    folder = next(path for path in (tmp_path / "fer", fer2013_path) if path.is_dir())
    test = next(path for path in (folder, *folder.rglob("test")) if path.name == "test")
    table = tmp_path / "out.csv"
    command = [sys.executable, "-m", "fer_deploy", "infer", str(test), "--output", str(table), "--strict"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            path = Path(row["path"])
            assert row["status"] == "ok"
            assert row["emotion"] in LABELS
            split = path.name.partition("_")[0]
            total[split] += 1
            right[split] += row["emotion"] == path.parent.name
    assert sum(total.values()) == 7_178
    recorded = bundle.training["accuracy"]
    assert sum(right.values()) / 7_178 == pytest.approx(recorded["Test"], abs=0.0005)
    for split, n in total.items():
        assert right[split] / n == pytest.approx(recorded[split], abs=0.0005)
