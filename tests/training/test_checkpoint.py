from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_deploy.errors import TrainingError
from fer_deploy.training.checkpoint import FILE, Checkpoint


def _checkpoint() -> Checkpoint:
    arrays = [np.arange(12, dtype=np.float32).reshape(3, 4), np.array(7, np.int64), np.array([1, 2], np.uint32)]
    return Checkpoint({"recipe": {"seed": 1}}, 1, 2, [{"epoch": 1}], arrays * 5, arrays, arrays[:1], {"epoch": 1})


def test_what_is_saved_comes_back_in_order(tmp_path: Path) -> None:
    saved = _checkpoint()
    saved.save(tmp_path)
    loaded = Checkpoint.load(tmp_path)
    assert (loaded.identity, loaded.stage, loaded.epoch) == (saved.identity, 1, 2)
    assert (loaded.history, loaded.best_row) == (saved.history, saved.best_row)
    for group in ("model", "optimizer", "best"):
        for a, b in zip(getattr(saved, group), getattr(loaded, group), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def _under_way(epoch: int) -> Checkpoint:
    random = np.random.default_rng(0)
    weights = [random.normal(size=(3, 4)).astype(np.float32), random.normal(size=4).astype(np.float32)]
    counters = [np.array(epoch, np.int64), np.array(0.1, np.float32)]
    identity = {"recipe": {"stages": [{"epochs": 2, "average": 0.9}]}}
    optimizer = [*counters, *(w / 2 for w in weights), *(w * 3 for w in weights)]
    return Checkpoint(identity, 0, epoch, [{"epoch": epoch}], weights, optimizer, weights, {"epoch": epoch})


def test_a_compact_one_keeps_weights_and_averages_without_momentum(tmp_path: Path) -> None:
    full = _under_way(epoch=1)
    full.compact().save(tmp_path)
    loaded = Checkpoint.load(tmp_path)
    for a, b in zip(full.model + full.optimizer[:4], loaded.model + loaded.optimizer[:4], strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-3)
    np.testing.assert_array_equal(full.model[1], loaded.model[1])  # vectors are kept whole
    assert not any(momentum.any() for momentum in loaded.optimizer[4:])
    assert len(loaded.optimizer) == len(full.optimizer)
    assert (loaded.best, loaded.best_row) == ([], {})


def test_a_compact_one_of_a_finished_stage_keeps_the_best_weights(tmp_path: Path) -> None:
    full = _under_way(epoch=2)
    full.compact().save(tmp_path)
    loaded = Checkpoint.load(tmp_path)
    assert (loaded.model, loaded.optimizer, loaded.best_row) == ([], [], full.best_row)
    for a, b in zip(full.best, loaded.best, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3)


def test_there_is_nothing_to_resume_in_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to resume"):
        Checkpoint.load(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_one_is_refused(tmp_path: Path, keep: float) -> None:
    _checkpoint().save(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    with pytest.raises(TrainingError, match="damaged"):
        Checkpoint.load(tmp_path)


def test_a_write_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _checkpoint().save(tmp_path)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        Checkpoint({}, 9).save(tmp_path)
    assert Checkpoint.load(tmp_path).stage == 1
