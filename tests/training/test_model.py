"""The network has the layers that its name promises, and its normalisation inside."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.errors import UsageError
from fer_deploy.training.recipe import load_recipe

keras = pytest.importorskip("keras")

from fer_deploy.training.model import build_model, count_layers  # noqa: E402


@pytest.mark.parametrize(("stem_stride", "unpadded"), [(1, 1), (2, 1), (1, 3), (2, 0)])
def test_it_has_exactly_38_layers_of_the_named_kinds(stem_stride: int, unpadded: int) -> None:
    model = build_model(widths=(4, 4, 8, 8), dense_units=8, stem_stride=stem_stride, unpadded=unpadded)
    assert count_layers(model) == 38
    kinds = {type(layer).__name__ for layer in model.layers}
    assert kinds == {
        "InputLayer",
        "Rescaling",
        "Conv2D",
        "BatchNormalization",
        "ReLU",
        "MaxPooling2D",
        "Dropout",
        "GlobalAveragePooling2D",
        "Dense",
    }


def test_the_flat_head_has_38_layers_too_and_sees_where_a_feature_lies() -> None:
    model = build_model(widths=(4, 4, 8, 8), dense_units=8, unpadded=2, head="flat")
    assert count_layers(model) == 38
    assert model.get_layer("fc_dense").kernel.shape == (3 * 3 * 8, 8)
    with pytest.raises(UsageError, match="head 'mean'"):
        build_model(head="mean")


def test_unpadded_stages_shrink_the_picture() -> None:
    model = build_model(widths=(4, 4, 8, 8), dense_units=8, unpadded=2)
    sizes = [model.get_layer(f"{stage}_relu2").output.shape[1] for stage in ("a1", "a2", "b1", "b2")]
    assert sizes == [44, 18, 9, 5]


def test_a_smaller_picture_goes_through_the_same_weights() -> None:
    whole, small = (build_model(widths=(4, 4, 8, 8), dense_units=8, unpadded=3, size=size) for size in (48, 32))
    small.set_weights(whole.get_weights())
    assert small.predict(np.zeros((2, 32, 32, 1)), verbose=0).shape == (2, 7)


def test_blocks_come_in_order_and_the_fully_connected_one_last() -> None:
    names = [layer.name for layer in build_model(widths=(4, 4, 8, 8), dense_units=8).layers]
    firsts = [names.index(name) for name in ("a1_conv1", "a2_conv1", "b1_conv1", "b2_conv1", "fc_dense")]
    assert firsts == sorted(firsts)
    assert names[-1] == "probabilities"


def test_it_takes_pixels_as_they_are_and_answers_with_probabilities() -> None:
    model = build_model(widths=(4, 4, 8, 8), dense_units=8)
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1)).astype(np.uint8)
    answer = model.predict(images, verbose=0)
    assert answer.shape == (3, 7)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-6)


def test_the_answer_does_not_depend_on_the_rest_of_the_batch() -> None:
    model = build_model(widths=(4, 4, 8, 8), dense_units=8)
    images = np.random.default_rng(1).integers(0, 256, (5, 48, 48, 1)).astype(np.uint8)
    together = model.predict(images, verbose=0)
    alone = np.concatenate([model.predict(images[i : i + 1], verbose=0) for i in range(5)])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"widths": (4, 4, 8)}, {"dropout": (0.1,)}, {"stem_stride": 3}, {"unpadded": 4}])
def test_a_shape_that_is_not_this_network_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="four widths, five dropout rates"):
        build_model(**wrong)  # type: ignore[arg-type]


def test_it_costs_what_the_readme_says() -> None:
    recipe = load_recipe(Path(__file__).parents[2] / "train/recipes/default.toml")
    model = build_model(**asdict(recipe.model))
    assert model.count_params() == 1_242_919
    products = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            positions = int(np.prod(layer.output.shape[1:-1]))
            products += positions * int(np.prod(layer.kernel.shape))
    assert round(2 * products / 1e9, 2) == 0.16
