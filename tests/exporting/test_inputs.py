"""Calibration pictures come from Training, alike from every class, and the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_deploy.data.fer2013 import Fer2013, Partition
from fer_deploy.errors import UsageError
from fer_deploy.exporting.inputs import draw_calibration


def partition(counts: tuple[int, ...]) -> Partition:
    labels = np.repeat(np.arange(7, dtype=np.uint8), counts)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 48, 48), np.uint8)
    images[:, 0, 0] = labels
    return Partition(images, labels, tuple(f"{i:05d}" for i in range(len(labels))))


def dataset(**partitions: Partition) -> Fer2013:
    return Fer2013(Path("fer.zip"), "zip", partitions)


def drawn_labels(count: int, counts: tuple[int, ...] = (40, 5, 40, 90, 40, 40, 40)) -> list[int]:
    drawn = draw_calibration(dataset(Training=partition(counts)), count, seed=0)
    assert drawn.images.shape == (min(count, sum(counts)), 48, 48, 1)
    return np.bincount(drawn.images[:, 0, 0, 0], minlength=7).tolist()


def test_classes_are_alike() -> None:
    assert drawn_labels(35) == [5] * 7
    assert drawn_labels(7) == [1] * 7
    assert drawn_labels(36) == [6, 5, 5, 5, 5, 5, 5]


def test_a_rare_class_gives_all_it_has() -> None:
    assert drawn_labels(65) == [10, 5, 10, 10, 10, 10, 10]
    assert drawn_labels(10_000) == [40, 5, 40, 90, 40, 40, 40]


def test_the_draw_depends_on_the_seed_alone() -> None:
    source = dataset(Training=partition((20,) * 7))
    first, again, other = (draw_calibration(source, 35, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)
    assert "images" not in first.as_dict()
    assert first.as_dict()["fingerprint"] == source.partitions["Training"].fingerprint()


@pytest.mark.parametrize("names", [("PublicTest", "PrivateTest"), ("Test",), ("PrivateTest",)])
def test_test_pictures_are_refused_unless_forced(names: tuple[str, ...]) -> None:
    source = dataset(**{name: partition((3,) * 7) for name in names})
    with pytest.raises(UsageError, match=r"fer\.zip has only test pictures .* --calibration-force"):
        draw_calibration(source, 14, seed=0)
    forced = draw_calibration(source, 14, seed=0, force=True)
    assert (forced.forced, forced.partition, forced.count) == (True, "Test", 14)
