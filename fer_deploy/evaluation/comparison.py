"""How far two sets of answers to the same pictures lie apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_deploy.evaluation.accuracy import Score, score


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
    found: NDArray[np.float32], ground: NDArray[np.float32], labels: NDArray[np.uint8] | None = None
) -> Comparison:
    """Compares a form's answers with Keras's.

    Args:
        found: float32, shape (N, 7), finite.
        ground: Keras's, of the same shape.
        labels: Shape (N,), 0..6; None where there are none.
    """
    ours, theirs = found.argmax(axis=1), ground.argmax(axis=1)
    difference = np.abs(found.astype(np.float64) - ground)
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
