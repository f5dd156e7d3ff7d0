from __future__ import annotations

import numpy as np
import pytest

from fer_deploy.metrics.accuracy import score, wilson_interval


def test_counts_by_hand() -> None:
    labels = np.array([0, 0, 1, 3], np.uint8)
    predictions = np.eye(7, dtype=np.float32)[[0, 3, 1, 3]]
    result = score(predictions, labels)
    assert result.accuracy == 0.75
    assert result.confusion[0] == (1, 0, 0, 1, 0, 0, 0)
    happy = result.classes[3]
    assert (happy.precision, happy.recall, happy.support) == (0.5, 1.0, 1)
    assert happy.f1 == pytest.approx(2 / 3)
    assert result.classes[6].f1 == 0.0


def test_wilson_against_published_values() -> None:
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I: 81 of 263
    low, high = wilson_interval(81, 263, 1.959964)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
