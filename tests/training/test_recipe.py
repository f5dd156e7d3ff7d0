from __future__ import annotations

from pathlib import Path

import pytest

from fer_deploy.errors import TrainingError
from fer_deploy.training.recipe import Recipe, load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "train/recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_parses(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.epochs >= 1


def test_what_the_documents_name_is_there() -> None:
    assert {"default", "fast", "first", "reference", "smoke"} <= {path.stem for path in RECIPES}


def test_without_a_recipe_the_one_that_needs_no_other_network_is_trained() -> None:
    path = next(path for path in RECIPES if path.stem == "first")
    assert load_recipe(path) == Recipe(name="first")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sed = 1", "no key 'sed'"),
        ("seed = 'one'", "seed is 'one', expected a int"),
        ("[[stage]]\nepochs = 0", "at least 1"),
        ("[[stage]]\nrate = 1", "no key 'rate'"),
        ("[model]\nwidths = 3", "expected a tuple"),
        ("[augmentation]\nflip = 1", "expected a bool"),
        ("precision = 'float8'", "expected one of"),
        ("stage = []", "no stage"),
        ("seed =", "not valid TOML"),
        ("augmentation = 3", "augmentation"),
        ("stage = 3", "stage"),
        ("[[stage]]\nsharpness = -0.1", "sharpness must be positive, and needs momentum"),
        ("[[stage]]\nsharpness = 0.1\nmomentum = 0.0", "sharpness must be positive, and needs momentum"),
        ("excluded = 3", "excluded is 3, expected a str"),
        ("[[stage]]\ninitial = 3", "initial is 3, expected a str"),
        ("[[stage]]\nsize = 31\n[[stage]]", "size must be from 32 to 48"),
        ("seed = -1", "seed must be from 0"),
        ("[model]\ndropout = [0.0, 0.1, 0.1, 0.2, 1.5]", "dropout must be from 0 to below 1"),
        ("[[stage]]\naverage = 1.5", "average must be from 0 to 1"),
        ("[[stage]]\nplateau = 1.0", "plateau must be"),
        ("[augmentation]\nreduce = 2.0", "reduce must be"),
        ('[model]\nhead = "flat"\n[[stage]]\nsize = 40\n[[stage]]\nsize = 48', "several sizes need the head pool"),
        ("[[stage]]\nnorm_images = -1", "norm_images must not be negative"),
        ("[augmentation]\nerase_size = [20, 6]", "erase_size must be two lengths from 1 to 48"),
        ("[[stage]]\n[stage.augmentation]\nerase_size = [6, 60]", "erase_size must be two lengths"),
    ],
)
def test_a_wrong_recipe_is_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=says) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be read"):
        load_recipe(tmp_path / "none.toml")


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipes/r.toml"
    path.parent.mkdir()
    path.write_text(
        'excluded = "../runs/doubts.txt"\n[[stage]]\ninitial = "../a.keras"\nteachers = ["../b", "default"]\n'
    )
    recipe = load_recipe(path)
    assert recipe.excluded == str(tmp_path / "runs/doubts.txt")
    assert recipe.stages[0].initial == str(tmp_path / "a.keras")
    assert recipe.stages[0].teachers == (str(tmp_path / "b"), "default")


def test_stages_share_the_augmentation_and_may_change_it(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(
        "[augmentation]\nrotation = 5\n[[stage]]\n[[stage]]\ninitial = 'w/a.keras'\naugmentation = { zoom = 0.5 }\n"
    )
    first, second = load_recipe(path).stages
    assert (first.augmentation.rotation, second.augmentation.rotation) == (5.0, 5.0)
    assert second.augmentation.zoom == 0.5
    assert first.augmentation.zoom != 0.5
    assert second.initial == str(tmp_path.resolve() / "w/a.keras")
