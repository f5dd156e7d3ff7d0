from __future__ import annotations

import math

import numpy as np
import pytest

from fer_deploy.metrics.accuracy import compare, mcnemar


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 5, 1.0),
        (0, 5, 2 / 32),
        (0, 6, 2 / 64),
        (1, 9, 2 * 11 / 1024),
    ],
)
def test_mcnemar(gained: int, lost: int, p: float) -> None:
    assert mcnemar(gained, lost) == pytest.approx(p)
    assert mcnemar(lost, gained) == mcnemar(gained, lost)


@pytest.mark.parametrize(("gained", "lost"), [(86, 150), (40, 70), (500, 560)])
def test_mcnemar_is_near_the_normal_approximation(gained: int, lost: int) -> None:
    z = (abs(gained - lost) - 1) / math.sqrt(gained + lost)  # Edwards 1948, with correction for continuity
    assert mcnemar(gained, lost) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.1)


def test_mcnemar_of_thousands() -> None:
    assert mcnemar(3000, 3000) == 1.0
    assert mcnemar(3500, 3678) == pytest.approx(0.0366, rel=0.01)
    assert mcnemar(0, 7178) == 0.0


def test_by_hand() -> None:
    rows = np.eye(7, dtype=np.float32)
    reference, found = rows[[0, 1, 2, 3]], rows[[0, 1, 3, 4]].copy()
    found[0] = [0.6, 0.4, 0, 0, 0, 0, 0]
    close = compare(found, reference)
    assert (close.n, close.agreement, close.max_abs_difference) == (4, 0.5, 1.0)
    assert close.mean_abs_difference == pytest.approx((0.8 + 2 + 2) / 28)
    assert (close.score, close.drift_points, close.drift_p) == (None, None, None)

    judged = compare(found, reference, np.array([0, 1, 3, 3], np.uint8))  # one gained, one lost
    assert judged.score
    assert (judged.score.accuracy, judged.drift_points, judged.drift_p) == (0.75, 0.0, 1.0)
    worse = compare(found, reference, np.array([0, 1, 2, 3], np.uint8))
    assert (worse.drift_points, worse.drift_p) == (-50.0, 0.5)
