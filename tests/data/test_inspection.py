from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fer_deploy.data.fer2013 import PRIVATE, PUBLIC, TEST, TRAINING, Fer2013, Partition
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.data.inspection import inspect


def part(pixels: list[int], labels: list[int], name: str) -> Partition:
    """Pictures that are told apart by their first pixel; 0 is a blank one."""
    images = np.zeros((len(pixels), 48, 48), np.uint8)
    images[:, 0, 0] = pixels
    return Partition(images, np.array(labels, np.uint8), tuple(f"{name}_{i}" for i in range(len(pixels))))


def test_counts_duplicates_and_blanks() -> None:
    partitions = {
        TRAINING: part([1, 1, 1, 2, 0], [0, 0, 0, 1, 6], "a"),
        PUBLIC: part([2, 3, 3], [1, 2, 4], "b"),
        PRIVATE: part([2, 0], [3, 6], "c"),
    }
    found = inspect(Fer2013(Path("x"), "csv", partitions))
    assert found.rows()[0] == {"class": "angry", "train": 3, "public": 0, "private": 0}
    assert found.rows()[-1] == {"class": "total", "train": 5, "public": 3, "private": 2}
    assert found.duplicates.within == {"train": 2, "public": 1, "private": 0}
    assert found.duplicates.across == {"train-public": 1, "train-private": 2, "public-private": 1}
    assert found.duplicates.label_conflicts == 2  # picture 2 (classes 1, 3) and picture 3 (classes 2, 4)
    assert ("Training/a_0", "Training/a_1", "Training/a_2") in found.duplicates.groups
    assert len(found.duplicates.groups) == 4
    assert found.blank == ("Training/a_4", "PrivateTest/c_1")
    assert json.loads(json.dumps(found.to_json()))["rows"] == found.rows()


def test_a_missing_partition_counts_as_none_and_test_has_its_own_column() -> None:
    found = inspect(Fer2013(Path("x"), "csv", {TEST: part([1], [0], "t")}))
    assert found.rows()[0] == {"class": "angry", "train": 0, "test": 1}
    assert list(found.fingerprints) == ["test"]
    found = inspect(Fer2013(Path("x"), "csv", {TRAINING: part([1], [0], "t")}))
    assert found.rows()[0] == {"class": "angry", "train": 1, "public": 0, "private": 0}


def test_every_form_is_found_the_same(every_variant: dict[str, Path]) -> None:
    seen = []
    for data_format in ("zip", "folder", "csv", "icml"):
        found = inspect(load_fer2013(every_variant[data_format])).to_json()
        seen.append({key: found[key] for key in ("rows", "duplicates", "blank", "fingerprints", "notes")})
    assert all(other == seen[0] for other in seen)
    assert seen[0]["rows"][-1] == {"class": "total", "train": 21, "public": 14, "private": 7}
