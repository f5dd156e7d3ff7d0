"""The real FER-2013: its counts, and that nothing of it is lost between forms."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from fer_deploy.data.convert import convert
from fer_deploy.data.fer2013 import PRIVATE, PUBLIC, TRAINING, Fer2013
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.data.inspection import inspect
from fer_deploy.labels import LABELS

pytestmark = pytest.mark.fer2013

COUNTS = {
    "angry": (3995, 467, 491),
    "disgust": (436, 56, 55),
    "fear": (4097, 496, 528),
    "happy": (7215, 895, 879),
    "sad": (4830, 653, 594),
    "surprise": (3171, 415, 416),
    "neutral": (4965, 607, 626),
    "total": (28_709, 3_589, 3_589),
}


@pytest.fixture(scope="module")
def real(fer2013_path: Path) -> Fer2013:
    return load_fer2013(fer2013_path)


def test_counts(real: Fer2013) -> None:
    found = inspect(real)
    assert found.rows() == [
        {"class": label, "train": train, "public": public, "private": private}
        for label, (train, public, private) in COUNTS.items()
    ]
    assert list(COUNTS)[:-1] == list(LABELS)
    assert list(real.partitions) == [TRAINING, PUBLIC, PRIVATE]
    assert real.notes == real.skipped == ()
    assert found.duplicates.within["train"] > 1000
    assert 0 < len(found.blank) < 20


def test_zip_folder_and_csv_are_the_same(real: Fer2013, fer2013_path: Path, tmp_path: Path) -> None:
    """The folder is unpacked from the zip where there is one; the CSV is made by convert."""
    folder, table = tmp_path / "unpacked", tmp_path / "converted.csv"
    if zipfile.is_zipfile(fer2013_path):
        with zipfile.ZipFile(fer2013_path) as archive:
            archive.extractall(folder)
    else:
        convert(real, folder)
    convert(real, table)
    expected = inspect(real).to_json()
    for path, data_format in ((folder, "folder"), (table, "csv")):
        data = load_fer2013(path)
        assert data.data_format == data_format
        assert [part.names for part in data.partitions.values()] == [part.names for part in real.partitions.values()]
        found = inspect(data).to_json()
        assert json.dumps(found["rows"]) == json.dumps(expected["rows"])
        assert found["fingerprints"] == expected["fingerprints"]
        assert found["duplicates"] == expected["duplicates"]
    shutil.rmtree(tmp_path)  # half a gigabyte that pytest would keep
