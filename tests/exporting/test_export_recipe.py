"""Recipes of an export, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from fer_deploy.errors import UsageError
from fer_deploy.exporting.export_recipe import ExportRecipe, Quantisation, load_export_recipe
from fer_deploy.exporting.inputs import parse_precisions, with_count, with_target

SHIPPED = sorted((Path(__file__).parents[2] / "export/recipes").glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_parses(path: Path) -> None:
    assert load_export_recipe(path).name == path.stem


def test_the_default_recipe() -> None:
    recipe = load_export_recipe(next(path for path in SHIPPED if path.stem == "default"))
    assert recipe == ExportRecipe("default", 67.9, Quantisation(per_channel_trt=False), fit_temperature=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int8 = 3", "int8 is 3, expected a table"),
        ("speed = 3", "there is no key 'speed'"),
        ("[int8]\nmethod = 'best'", "method is 'best', expected one of min-max"),
        ("[int8]\ncount = '5'", "count is '5', expected a int"),
        ("[int8]\ncount = 0", "count is 0"),
        ("[int8]\npercentile = 3", "percentile is 3.0"),
        ("[int8]\nequalise = 1.5", "equalise is 1.5"),
        ("[int8]\nrounding = 'up'", "rounding is 'up'"),
        ("fit_temperature = 2.5", "fit_temperature is 2.5, expected a bool"),
        ("target_accuracy = 640", "target_accuracy is 640.0, expected percent"),
        ("= 3", "is not valid TOML"),
    ],
)
def test_a_wrong_recipe(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_export_recipe(path)
    with pytest.raises(UsageError, match="cannot be read"):
        load_export_recipe(tmp_path / "none.toml")


def test_options_override_the_recipe() -> None:
    assert with_target(ExportRecipe(), 70.5).target_accuracy == 70.5
    assert with_count(ExportRecipe(), 64).int8.count == 64
    assert with_count(with_target(ExportRecipe(), None), None) == ExportRecipe()
    with pytest.raises(UsageError, match="--target-accuracy is wrong"):
        with_target(ExportRecipe(), 101)
    with pytest.raises(UsageError, match="--calibration-count is wrong: count is 0"):
        with_count(ExportRecipe(), 0)


def test_precisions() -> None:
    assert parse_precisions("all") is None
    assert parse_precisions("fp16, int8-trt") == ("fp16", "int8-trt")
    with pytest.raises(UsageError, match="There is no precision 'fp8'"):
        parse_precisions("fp16,fp8")
