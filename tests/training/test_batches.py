"""What a batch holds: pictures of the stage's size, and labels that weigh what the stage says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fer_deploy.data.fer2013 import Partition
from fer_deploy.training.batches import class_weights, epoch_batches
from fer_deploy.training.recipe import Stage
from fer_deploy.training.teachers import Teachers

SIZES = (60, 5, 15, 100, 20, 0, 40)
STAGE = Stage(batch_size=24, size=36)


@pytest.fixture(scope="module")
def partition() -> Partition:
    labels = np.repeat(np.arange(7, dtype=np.uint8), SIZES)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 48, 48)).astype(np.uint8)
    return Partition(images, labels, tuple(f"p{i}" for i in range(len(labels))))


def _labels(partition: Partition, stage: Stage) -> np.ndarray:
    with Teachers([]) as nobody:
        batches = list(epoch_batches(partition, stage, (1,), nobody))
    assert all(images.shape == (24, 36, 36, 1) for images, _ in batches)
    return np.concatenate([labels for _, labels in batches])


def test_without_balance_every_picture_counts_as_one(partition: Partition) -> None:
    np.testing.assert_allclose(_labels(partition, STAGE).sum(axis=1), 1, atol=1e-6)


def test_with_balance_the_classes_weigh_alike(partition: Partition) -> None:
    plain = _labels(partition, STAGE)
    balanced = _labels(partition, replace(STAGE, class_balance=1.0))
    np.testing.assert_array_equal(plain.argmax(axis=1), balanced.argmax(axis=1))
    weights = {c: set(balanced[plain.argmax(axis=1) == c].sum(axis=1).round(4)) for c in (0, 1, 3)}
    assert all(len(found) == 1 for found in weights.values())
    (a,), (b,), (c,) = weights.values()
    np.testing.assert_allclose([a * 60, b * 5, c * 100], sum(SIZES) / 6, rtol=1e-3)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_all_pictures_together_count_as_many_as_they_are(partition: Partition, balance: float) -> None:
    weights = class_weights(partition.labels, balance)
    assert weights @ SIZES == pytest.approx(sum(SIZES))
    assert weights[5] == 0 or balance == 0
    order = np.argsort(weights[[1, 2, 4, 6, 0, 3]])
    assert balance == 0 or list(order) == [5, 4, 3, 2, 1, 0]
