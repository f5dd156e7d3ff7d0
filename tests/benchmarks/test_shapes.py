"""The list of shapes, the accuracies that belong to them, and one real measurement of a tiny one."""

from __future__ import annotations

import json
from pathlib import Path

import peak
import pytest

from fer_deploy.errors import UsageError
from fer_deploy.training.recipe import Shape

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fer-deploy[export]'")
import shapes

SHIPPED = Path(shapes.__file__).with_name("shapes.toml")


def test_the_shipped_list_has_the_shipped_networks() -> None:
    found = shapes.load_shapes(SHIPPED)
    assert Shape() in found
    assert shapes.name_of(Shape(unpadded=2)) == "32-64-128-256 stride 1, 2 unpadded, dense 256"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no shape"),
        ("shape = 3", "has no shape"),
        ("shape = [3]", "is wrong"),
        ("[[shape]]\nwidth = [1]", "no key 'width'"),
        ("[[shape]]\n[[shape]]\nunpadded = 1", "same shape twice"),
        ("[[shape]", "not valid TOML"),
    ],
)
def test_a_wrong_list_is_told(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "shapes.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        shapes.load_shapes(path)


def test_the_best_training_of_a_shape_counts(tmp_path: Path) -> None:
    for name, accuracy, model in (("a", 0.5, {}), ("b", 0.6, {}), ("c", 0.4, {"widths": [1, 2, 3, 4]})):
        (tmp_path / name).mkdir()
        metrics = {"recipe": {"model": model}, "summary": {"epochs": 6, "accuracy": {"PublicTest": accuracy}}}
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics))
    found = shapes.trained_accuracy([tmp_path / name for name in "abc"])
    assert found[shapes.name_of(Shape())] == {"public_test": 0.6, "epochs": 6}
    assert found[shapes.name_of(Shape(widths=(1, 2, 3, 4)))]["public_test"] == 0.4


def test_the_published_metrics_are_of_a_shape() -> None:
    results = SHIPPED.parents[1] / "train/results/default"
    assert list(shapes.trained_accuracy([results])) == [shapes.name_of(Shape(unpadded=2))]


def test_a_tiny_shape_is_made_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("tf2onnx", "onnxslim"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'fer-deploy[export]'")
    monkeypatch.setattr(peak, "SHAPES", ((16, 8, 1, 1), (32, 8, 1, 1)))
    (row,) = shapes.measure([Shape(widths=(4, 4, 4, 4), dense_units=8, unpadded=2)], rounds=2, seconds=0.02)
    sides = ((46, 1), (44, 4), (20, 4), (18, 4), (9, 4), (9, 4), (5, 4), (5, 4))
    taps = [side * 3 - (2 if side < 10 else 0) for side, _ in sides]
    assert row["operations"] == sum(8 * n**2 * before for n, (_, before) in zip(taps, sides, strict=True)) + 2 * 8 * 11
    assert len(row["samples"]) == 2
    assert row["images_per_s"] > 0
    assert row["peak_share"] > 0
    row |= {"public_test": 0.5, "epochs": 6}
    line = shapes.table({"rows": [row]}).splitlines()[-1]
    assert line.startswith("| 4-4-4-4 stride 1, 2 unpadded, dense 8 | 1 | ")
    assert line.endswith("| 50.00% (6 epochs) |")
