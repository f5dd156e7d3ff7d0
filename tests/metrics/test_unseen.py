"""Copies of what was learned from are told from the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_deploy.data.fer2013 import Fer2013, Partition
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.data.inspection import find_duplicates
from fer_deploy.metrics.duplicates import unseen


def partition(*values: int) -> Partition:
    """Pictures of one gray each; labels in turn, so that copies have other labels than what they are copies of."""
    images = np.stack([np.full((48, 48), value, np.uint8) for value in values])
    return Partition(images, (np.array(values) * len(values) % 7).astype(np.uint8), tuple(map(str, range(len(values)))))


def test_private_pictures_may_be_copies_of_both_others() -> None:
    parts = {"Training": partition(1, 2, 2, 3), "PublicTest": partition(3, 4, 5), "PrivateTest": partition(6, 4, 1, 6)}
    data = Fer2013(Path("made"), "csv", parts)
    assert unseen(data, "PublicTest").tolist() == [False, True, True]
    assert unseen(data, "PrivateTest").tolist() == [True, False, False, True]


def test_without_training_nothing_was_seen() -> None:
    data = Fer2013(Path("made"), "csv", {"Test": partition(1, 1)})
    assert unseen(data, "Test").tolist() == [True, True]


@pytest.mark.fer2013
def test_as_many_are_left_out_as_data_info_counts(fer2013_path: Path) -> None:
    """``across`` counts distinct pictures, so a test picture that is there twice counts once there."""
    data = load_fer2013(fer2013_path)
    copies = data.partitions["PublicTest"].images[~unseen(data, "PublicTest")]
    assert len({image.tobytes() for image in copies}) == find_duplicates(data).across["train-public"]
