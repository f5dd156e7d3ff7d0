"""Accuracy of predictions against FER-2013's labels."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_deploy.labels import LABELS, NUM_CLASSES


@dataclass(frozen=True)
class ClassScore:
    """One class's figures, fractions from 0 to 1; 0 where there is nothing to divide by."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Score:
    """Accuracy on one set of pictures.

    Args:
        n: Number of pictures.
        accuracy: Share of right top-1 answers, 0 to 1.
        interval: 95 % confidence interval of the accuracy, by Wilson's method.
        confusion: Counts, rows are true classes and columns predicted ones, in the order of ``LABELS``.
        classes: Figures per class.
    """

    n: int
    accuracy: float
    interval: tuple[float, float]
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[ClassScore, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def score(probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> Score:
    """Compares predictions with labels.

    Args:
        probabilities: Shape (N, 7), N >= 1; only the largest of each row counts.
        labels: Shape (N,), 0..6.
    """
    n = len(labels)
    predicted = probabilities.argmax(axis=1)
    pairs = labels.astype(np.int64) * NUM_CLASSES + predicted
    confusion = np.bincount(pairs, minlength=NUM_CLASSES**2).reshape(NUM_CLASSES, NUM_CLASSES)
    right = int(confusion.trace())
    return Score(
        n=n,
        accuracy=right / n,
        interval=wilson_interval(right, n),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        classes=tuple(_class_score(confusion, i) for i in range(NUM_CLASSES)),
    )


def wilson_interval(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Confidence interval of a proportion (Wilson 1927, "Probable inference"); z = 1.96 is 95 %."""
    share = right / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def _class_score(confusion: NDArray[np.int64], i: int) -> ClassScore:
    hits, predicted, actual = int(confusion[i, i]), int(confusion[:, i].sum()), int(confusion[i].sum())
    return ClassScore(
        label=LABELS[i],
        precision=hits / predicted if predicted else 0.0,
        recall=hits / actual if actual else 0.0,
        f1=2 * hits / (predicted + actual) if predicted + actual else 0.0,
        support=actual,
    )
