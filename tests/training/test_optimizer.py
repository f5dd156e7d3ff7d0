from __future__ import annotations

import pytest

from fer_deploy.training.optimizer import learning_rate_at
from fer_deploy.training.recipe import Stage


def test_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    stage = Stage(epochs=12, learning_rate=0.1, warmup_epochs=2.0, plateau=0.2)
    assert learning_rate_at(stage, 0.0) == 0.0
    assert learning_rate_at(stage, 1.0) == pytest.approx(0.05)
    assert [learning_rate_at(stage, epoch) for epoch in (2.0, 3.0, 4.0)] == [0.1] * 3
    assert learning_rate_at(stage, 8.0) == pytest.approx(0.05)
    assert learning_rate_at(stage, 12.0) == pytest.approx(0.0, abs=1e-12)


def test_learning_rate_of_a_stage_that_is_all_warmup() -> None:
    stage = Stage(epochs=1, learning_rate=0.1, warmup_epochs=5.0)
    assert learning_rate_at(stage, 0.5) == pytest.approx(0.05)
    assert learning_rate_at(stage, 1.0) == pytest.approx(0.1)
