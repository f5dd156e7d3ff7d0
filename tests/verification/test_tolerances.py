from __future__ import annotations

import pytest

from fer_deploy.bundle.manifest import PRECISIONS
from fer_deploy.verification.tolerances import AGREEMENT_FLOORS, Gate

GATE = Gate(target=0.6402)


def test_every_precision_has_a_floor() -> None:
    assert set(AGREEMENT_FLOORS) == {*PRECISIONS, "bf16"}


def test_at_the_limits_it_passes() -> None:
    assert GATE.failures("int8", 0.6352, -0.5, 0.98) == ()
    assert GATE.failures("fp32", 0.6352, 0.5, 0.999) == ()
    assert GATE.failures("fp32", 0.6402, 100 * (0.6352 - 0.6402), 0.999) == ()  # -0.5000000000000004


@pytest.mark.parametrize(
    ("accuracy", "drift", "agreement", "reported"),
    [
        (0.6351, 0.0, 1.0, "accuracy 63.51% is below 63.52%"),
        (0.68, -0.51, 1.0, "drift -0.51 points is beyond 0.5"),
        (0.68, 0.51, 1.0, "drift +0.51 points is beyond 0.5"),
        (0.68, 0.0, 0.9799, "agreement 97.99% is below 98.0%"),
        (float("nan"), 0.0, 1.0, "accuracy"),
        (0.68, float("nan"), 1.0, "drift"),
        (0.68, 0.0, float("nan"), "agreement"),
    ],
)
def test_beyond_a_limit_it_fails(accuracy: float, drift: float, agreement: float, reported: str) -> None:
    (failure,) = GATE.failures("int8", accuracy, drift, agreement)
    assert failure.startswith(reported)


def test_all_that_is_missed_is_told() -> None:
    assert len(GATE.failures("fp32", 0.1, -50.0, 0.2)) == 3


def test_without_a_target_accuracy_is_not_gated() -> None:
    assert Gate().failures("fp32", 0.1, 0.0, 1.0) == ()


def test_limits_can_be_set() -> None:
    strict = Gate(target=0.68, tolerance_points=0.0, max_drift_points=0.1)
    assert len(strict.failures("int8", 0.679, -0.2, 0.99)) == 2
