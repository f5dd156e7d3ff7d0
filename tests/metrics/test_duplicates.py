"""Accuracy without copies, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_deploy.data.fer2013 import Fer2013, Partition
from fer_deploy.metrics.duplicates import copies_table, without_copies


def partition(grays: list[int], labels: list[int]) -> Partition:
    images = np.stack([np.full((48, 48), gray, np.uint8) for gray in grays])
    return Partition(images, np.array(labels, np.uint8), tuple(map(str, grays)))


def test_copies_are_left_out_of_each_and_of_both() -> None:
    public, private = partition([1, 2, 3], [0, 1, 2]), partition([3, 4, 5, 6], [2, 0, 0, 1])
    data = Fer2013(Path("made"), "csv", {"Training": partition([1], [5]), "PublicTest": public, "PrivateTest": private})
    eye = np.eye(7, dtype=np.float32)
    predictions = {"PublicTest": eye[[0, 1, 0]], "PrivateTest": eye[[2, 0, 0, 0]]}  # right: 2 of 3, 3 of 4
    found = without_copies(predictions, data)
    reported = {name: (each.n, each.copies, each.accuracy) for name, each in found.items()}
    assert reported == {
        "PublicTest": (2, 1, 1 / 2),
        "PrivateTest": (3, 1, pytest.approx(2 / 3)),
        "Test": (5, 2, pytest.approx(3 / 5)),
    }
    assert found["PrivateTest"].against == ("Training", "PublicTest")
    lines = copies_table(found, {"PublicTest": 2 / 3, "PrivateTest": 3 / 4, "Test": 5 / 7})
    assert lines[2].startswith("| PublicTest | 66.67% | 1 | 50.00% | ")
    assert lines[2].endswith(" | Training |")


def test_nothing_left_is_no_row() -> None:
    data = Fer2013(Path("made"), "csv", {"Training": partition([1], [0]), "PublicTest": partition([1], [0])})
    assert without_copies({"PublicTest": np.eye(7, dtype=np.float32)[:1]}, data) == {}
