"""Batches of augmented pictures, made ahead of the training step; each depends on its seed and place alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from fer_deploy.data.fer2013 import Partition
from fer_deploy.labels import NUM_CLASSES
from fer_deploy.training.augmentation import augment, mix, scale
from fer_deploy.training.recipe import Stage
from fer_deploy.training.teachers import Teachers

AHEAD = 4


def steps_per_epoch(pictures: int, batch_size: int) -> int:
    """Whole batches in an epoch; the rest of the pictures waits for the next epoch's order."""
    return max(1, pictures // batch_size)


def epoch_batches(
    training: Partition, stage: Stage, seed: tuple[int, ...], teachers: Teachers, workers: int = 1
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yields one epoch in an order of its own.

    Args:
        training: The pictures.
        stage: Batch size, size of the pictures and augmentation.
        seed: Names the epoch; equal seeds give equal batches, however many workers there are.
        teachers: Opened; what they see is mixed into the labels.
        workers: Threads that augment.

    Yields:
        Pictures, float32, shape (B, size, size, 1), about 0..255, and labels, float32, shape (B, 7); a row sums to
        what its picture counts in the loss, 1 where ``class_balance`` is 0.
    """
    order = np.random.default_rng(seed).permutation(len(training))
    size = min(stage.batch_size, len(training))
    weights = class_weights(training.labels, stage.class_balance)

    def make(step: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        chosen = order[step * size : (step + 1) * size]
        random = np.random.default_rng((*seed, step))
        images = augment(training.images[chosen], stage.augmentation, random)
        labels = np.eye(NUM_CLASSES, dtype=np.float32)[training.labels[chosen]]
        labels = labels * (1 - stage.label_smoothing) + stage.label_smoothing / NUM_CLASSES
        images, labels = mix(images, labels, stage.augmentation, random)
        labels = teachers.teach(images, labels, stage.teaching)
        return scale(images, stage.size), labels * weights[training.labels[chosen], np.newaxis]

    waiting: deque[int] = deque(range(steps_per_epoch(len(training), stage.batch_size)))
    with ThreadPoolExecutor(workers) as pool:
        ahead = deque(pool.submit(make, waiting.popleft()) for _ in range(min(AHEAD + workers, len(waiting))))
        while ahead:
            batch = ahead.popleft().result()
            if waiting:
                ahead.append(pool.submit(make, waiting.popleft()))
            yield batch


def class_weights(labels: NDArray[np.uint8], balance: float) -> NDArray[np.float32]:
    """Says what a picture of each class counts; all pictures together count as many as they are.

    Args:
        labels: Of a whole partition.
        balance: ``class_balance`` of the stage.

    Returns:
        float32, shape (7,); 0 for a class without pictures.
    """
    sizes = np.bincount(labels, minlength=NUM_CLASSES).astype(np.float64)
    weights = np.power(sizes, -balance, out=np.zeros(NUM_CLASSES), where=sizes > 0)
    weights *= len(labels) / (weights @ sizes)
    return weights.astype(np.float32)
