from __future__ import annotations

import runpy
import shutil
from pathlib import Path

TRAIN = Path(__file__).parents[2] / "train"


def test_what_a_recipe_needs_is_made_before_it(tmp_path: Path) -> None:
    shutil.copytree(TRAIN / "recipes", tmp_path / "train/recipes")
    shutil.copy(TRAIN / "reproduce.py", tmp_path / "train")
    script = runpy.run_path(str(tmp_path / "train/reproduce.py"))
    recipes = tmp_path / "train/recipes"
    assert script["what_is_missing"](recipes / "default.toml") == ["first", "lean", "middle", "second"]
    assert script["what_is_missing"](recipes / "third.toml") == ["first", "lean", "middle", "second", "accurate"]
    missing = script["what_is_missing"](recipes / "second.toml")
    assert missing == ["first", "lean", "middle"]
    assert script["what_is_missing"](recipes / "fast.toml") == ["first"]
    assert script["what_is_missing"](recipes / "first.toml") == []
    (tmp_path / "runs/first/bundle").mkdir(parents=True)
    assert script["what_is_missing"](recipes / "second.toml") == missing  # the weights of ``first`` are not there
    (tmp_path / "runs/first/model.keras").touch()
    assert script["what_is_missing"](recipes / "second.toml") == ["lean", "middle"]
    (tmp_path / "runs/middle").mkdir()
    (tmp_path / "runs/middle/model.keras").touch()  # trained, and not exported yet
    assert script["what_is_missing"](recipes / "second.toml") == ["lean", "middle"]
