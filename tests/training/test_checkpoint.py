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
