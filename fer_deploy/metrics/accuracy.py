"""Accuracy of predictions against FER-2013's labels.

How far two sets of answers to the same pictures lie apart.
"""

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


@dataclass(frozen=True)
class Comparison:
    """Answers of one form beside Keras's.

    Args:
        n: Pictures.
        agreement: Share with the same top-1, a fraction.
        mean_abs_difference: Mean over all pictures and classes of the difference of a probability.
        max_abs_difference: The largest of them.
        score: Accuracy; None without labels.
        drift_points: Accuracy less that of Keras, in percentage points; None without labels.
        drift_p: Probability of at least this drift by chance (McNemar's exact test); None without labels.
    """

    n: int
    agreement: float
    mean_abs_difference: float
    max_abs_difference: float
    score: Score | None = None
    drift_points: float | None = None
    drift_p: float | None = None


def compare(
    found: NDArray[np.float32], reference: NDArray[np.float32], labels: NDArray[np.uint8] | None = None
) -> Comparison:
    """Compares a form's answers with Keras's.

    Args:
        found: float32, shape (N, 7), finite.
        reference: Keras's, of the same shape.
        labels: Shape (N,), 0..6; None where there are none.
    """
    ours, theirs = found.argmax(axis=1), reference.argmax(axis=1)
    difference = np.abs(found.astype(np.float64) - reference)
    close = (len(found), float((ours == theirs).mean()), float(difference.mean()), float(difference.max()))
    if labels is None:
        return Comparison(*close)
    right, keras_right = ours == labels, theirs == labels
    gained, lost = int((right & ~keras_right).sum()), int((keras_right & ~right).sum())
    drift_points = 100 * (gained - lost) / len(labels)
    return Comparison(*close, score(found, labels), drift_points, mcnemar(gained, lost))


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p of McNemar's test (1947, "Note on the sampling error"): a binomial test with p = 1/2.

    Args:
        gained: Pictures that only the one form gets right.
        lost: Pictures that only the other gets right.
    """
    n = gained + lost
    ways = tail = 1  # whole numbers: nothing is lost, however small p is
    for k in range(min(gained, lost)):
        ways = ways * (n - k) // (k + 1)
        tail += ways
    return min(1.0, 2 * tail / int(2**n))
