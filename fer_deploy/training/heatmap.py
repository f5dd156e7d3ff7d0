"""Where the network looks: how much its answer suffers when a part of the face is covered.

Occlusion (Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks") needs no gradients, so it
works alike on every Keras backend.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fer_deploy.data.fer2013 import Partition
from fer_deploy.labels import IMAGE_SIZE, NUM_CLASSES

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""uint8 pictures, shape (N, 48, 48), to probabilities, shape (N, 7)."""

PATCH = 10
STEP = 2


def occlusion_map(predict: Predict, image: NDArray[np.uint8], label: int) -> NDArray[np.float32]:
    """Measures what covering each part of a picture takes away from one class's probability.

    Args:
        predict: The network.
        image: uint8, shape (48, 48).
        label: The class.

    Returns:
        float32, shape (48, 48): mean loss of probability over the patches that cover the pixel, clipped at 0.
    """
    corners = [(y, x) for y in _corners() for x in _corners()]
    covered = np.repeat(image[np.newaxis], len(corners) + 1, axis=0)  # the last one stays as it is
    for picture, (y, x) in zip(covered, corners, strict=False):
        picture[max(y, 0) : y + PATCH, max(x, 0) : x + PATCH] = round(float(image.mean()))
    probability = predict(covered)[:, label]
    total = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32)
    count = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32)
    for (y, x), left in zip(corners, probability, strict=False):
        total[max(y, 0) : y + PATCH, max(x, 0) : x + PATCH] += probability[-1] - left
        count[max(y, 0) : y + PATCH, max(x, 0) : x + PATCH] += 1
    heat: NDArray[np.float32] = np.maximum(total / count, 0)
    return heat


def mean_faces(partition: Partition) -> NDArray[np.uint8]:
    """Returns the mean picture of each class, uint8, shape (7, 48, 48); nobody's face can be made out in it."""
    faces = np.zeros((NUM_CLASSES, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    for label in range(NUM_CLASSES):
        chosen = partition.images[partition.labels == label]
        if len(chosen):
            faces[label] = chosen.mean(axis=0).round()
    return faces


def surest_examples(
    probabilities: NDArray[np.float32], partition: Partition, per_class: int
) -> list[list[NDArray[np.uint8]]]:
    """Picks, for each class, the rightly classified pictures of which the network is most certain.

    Args:
        probabilities: The network's for the partition, shape (N, 7).
        partition: Pictures and labels.
        per_class: At most so many.
    """
    chosen = []
    for label in range(NUM_CLASSES):
        right = (partition.labels == label) & (probabilities.argmax(axis=1) == label)
        order = np.argsort(-np.where(right, probabilities[:, label], -1))[: min(per_class, int(right.sum()))]
        chosen.append([partition.images[i] for i in order])
    return chosen


def _corners() -> range:
    """Upper or left edges of the patches; the first ones begin outside, so that the rim is covered as often."""
    return range(STEP - PATCH, IMAGE_SIZE, STEP)
