"""Stages: where each starts from, and what a training refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.data.fer2013 import PUBLIC, TRAINING, Fer2013, Partition
from fer_deploy.errors import DataError, TrainingError
from fer_deploy.training.checkpoint import Checkpoint
from fer_deploy.training.recipe import Recipe, Shape, Stage

keras = pytest.importorskip("keras")

from fer_deploy.training.fit import as_json, fit, predict  # noqa: E402
from fer_deploy.training.optimizer import ahead  # noqa: E402

SHAPE = Shape(widths=(8, 8, 16, 16), dense_units=16)
DROPPING = Shape(widths=(8, 8, 16, 16), dense_units=16, dropout=(0.2,) * 5)
STILL = {"average": 0.0, "epochs": 1, "batch_size": 16, "learning_rate": 0.0, "weight_decay": 0.0}


def _partition(n: int, seed: int) -> Partition:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (n, 48, 48)).astype(np.uint8)
    return Partition(images, random.integers(0, 7, n).astype(np.uint8), tuple(f"p{i}" for i in range(n)))


@pytest.fixture(scope="module")
def data() -> Fer2013:
    return Fer2013(Path("made"), "folder", {TRAINING: _partition(48, 0), PUBLIC: _partition(20, 1)})


def _recipe(*stages: Stage) -> Recipe:
    return Recipe(name="tiny", precision="float32", model=SHAPE, stages=stages)


def test_a_stage_starts_from_the_given_weights(data: Fer2013, tiny_model_path: Path, tmp_path: Path) -> None:
    fitted = fit(data, _recipe(Stage(**STILL, initial=str(tiny_model_path))), tmp_path / "run")
    given = keras.models.load_model(tiny_model_path, compile=False)
    for ours, theirs in zip(fitted.model.trainable_weights, given.trainable_weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_a_later_stage_starts_from_the_best_of_the_one_before(data: Fer2013, tmp_path: Path) -> None:
    moving = Stage(epochs=2, batch_size=16, learning_rate=0.05, average=0.5)
    first = fit(data, _recipe(moving), tmp_path / "one")
    both = fit(data, _recipe(moving, Stage(**STILL)), tmp_path / "two")
    assert [row["stage"] for row in both.history] == [1, 1, 2]
    for a, b in zip(first.model.trainable_weights, both.model.trainable_weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-5)


def test_small_pictures_first_then_whole_ones(data: Fer2013, tmp_path: Path) -> None:
    small = Stage(**{**STILL, "learning_rate": 0.01}, size=36)
    fitted = fit(data, _recipe(small, Stage(**STILL)), tmp_path / "both")
    assert fitted.model.input_shape == (None, 48, 48, 1)
    assert fitted.best["stage"] == 2  # a score on small pictures says nothing of whole ones
    assert len({np.float32(row["loss"]) for row in fitted.history}) == 2


def test_stopped_between_stages_and_resumed_it_ends_with_the_same_weights(data: Fer2013, tmp_path: Path) -> None:
    stage = Stage(epochs=2, batch_size=16, learning_rate=0.05, average=0.5)
    recipe = Recipe(name="tiny", precision="float32", model=DROPPING, stages=(stage, stage))

    def stop(event: str, details: dict[str, Any]) -> None:
        if event == "epoch" and details["epoch"] == stage.epochs:
            raise KeyboardInterrupt

    fit(data, recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(data, recipe, tmp_path / "stopped", report=stop)
    fit(data, recipe, tmp_path / "stopped", resume=True)
    whole, resumed = Checkpoint.load(tmp_path / "whole"), Checkpoint.load(tmp_path / "stopped")
    assert len(resumed.history) == 4
    for expected, got in zip(whole.model, resumed.model, strict=True):
        np.testing.assert_array_equal(expected, got)


def test_a_network_for_small_pictures(data: Fer2013, tmp_path: Path) -> None:
    fitted = fit(data, _recipe(Stage(**STILL, size=40)), tmp_path / "small")
    assert fitted.model.input_shape == (None, 40, 40, 1)
    public = data.partition(PUBLIC)
    probabilities = predict(fitted.model, public.images)
    assert fitted.best["public_accuracy"] == (probabilities.argmax(axis=1) == public.labels).mean()
    likelihoods = probabilities[np.arange(len(public)), public.labels]
    assert fitted.best["public_log_loss"] == pytest.approx(-np.log(likelihoods).mean(), rel=1e-4)
    assert 0 <= fitted.best["clean_accuracy"] <= 1


def test_norms_are_those_of_the_kept_weights_and_unchanged_pictures(data: Fer2013, tmp_path: Path) -> None:
    stage = Stage(epochs=1, batch_size=16, learning_rate=0.05, average=0.5)
    moving = fit(data, _recipe(stage), tmp_path / "moving").model
    anew = fit(data, _recipe(dataclasses.replace(stage, norm_images=48)), tmp_path / "anew").model
    for one, other in zip(moving.trainable_weights, anew.trainable_weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())  # the training itself is the same
    pictures = data.partition(TRAINING).images[..., np.newaxis].astype(np.float32)
    seen = keras.Model(anew.inputs, anew.get_layer("a1_conv1").output).predict(pictures, verbose=0)
    norm, before = anew.get_layer("a1_norm1"), moving.get_layer("a1_norm1")
    np.testing.assert_allclose(norm.moving_mean.numpy(), seen.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-5)
    assert not np.allclose(before.moving_mean.numpy(), norm.moving_mean.numpy(), rtol=0.01)


def test_weights_are_moved_ahead_while_a_gradient_is_taken_and_back() -> None:
    weights = [keras.Variable(np.arange(3.0)), keras.Variable(np.ones((2, 2)))]
    start = [np.array(weight.numpy()) for weight in weights]
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(weights)
    with ahead(optimizer, 0.5):  # no momentum yet: no move
        np.testing.assert_array_equal(weights[0].numpy(), start[0])
    for momentum, value in zip(optimizer.momentums, (2.0, -4.0), strict=True):
        momentum.assign(np.full(momentum.shape, value))
    with ahead(optimizer, 0.5):
        moves = [weight.numpy() - before for weight, before in zip(weights, start, strict=True)]
        optimizer.momentums[0].assign([0.0, 0.0, 0.0])  # what a step does to the momentum changes no way back
    length = (3 * 2.0**2 + 4 * 4.0**2) ** 0.5
    np.testing.assert_allclose(moves[0], 0.5 * 2.0 / length, rtol=1e-5)
    np.testing.assert_allclose(moves[1], 0.5 * -4.0 / length, rtol=1e-5)
    for weight, before in zip(weights, start, strict=True):
        np.testing.assert_allclose(weight.numpy(), before, atol=1e-6)


def test_sharpness_changes_what_is_learned(data: Fer2013, tmp_path: Path) -> None:
    moving = {**STILL, "learning_rate": 0.05}
    plain = fit(data, _recipe(Stage(**moving)), tmp_path / "plain").model.get_weights()
    flat = fit(data, _recipe(Stage(**moving, sharpness=0.5)), tmp_path / "flat").model.get_weights()
    assert any(np.abs(a - b).max() > 1e-5 for a, b in zip(plain, flat, strict=True))


def test_weights_that_do_not_fit_are_named(data: Fer2013, tmp_path: Path) -> None:
    (tmp_path / "no.keras").write_bytes(b"no model")
    with pytest.raises(TrainingError, match=r"no\.keras"):
        fit(data, _recipe(Stage(**STILL, initial=str(tmp_path / "no.keras"))), tmp_path / "run")


def test_a_checkpoint_of_another_recipe_is_refused(data: Fer2013, tmp_path: Path) -> None:
    fit(data, _recipe(Stage(**STILL)), tmp_path)
    other = _recipe(Stage(**STILL, momentum=0.5))
    with pytest.raises(TrainingError, match="its recipe differs"):
        fit(data, other, tmp_path, resume=True)


def test_a_training_goes_on_in_the_precision_that_it_began_in(
    data: Fer2013, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(name="tiny", model=SHAPE, stages=(Stage(**STILL),))
    monkeypatch.setattr("fer_deploy.training.fit.resolve_precision", lambda precision: "mixed_bfloat16")
    fit(data, recipe, tmp_path)
    monkeypatch.undo()  # as on a machine that is faster in float32
    assert fit(data, recipe, tmp_path, resume=True).device["precision"] == "mixed_bfloat16"
    with pytest.raises(TrainingError, match="its recipe differs"):
        fit(data, dataclasses.replace(recipe, precision="float32"), tmp_path, resume=True)


def test_a_data_set_without_public_test_is_refused(data: Fer2013, tmp_path: Path) -> None:
    part = Fer2013(data.source, data.data_format, {TRAINING: data.partitions[TRAINING]})
    with pytest.raises(DataError, match=PUBLIC):
        fit(part, _recipe(Stage(**STILL)), tmp_path)


def test_pictures_that_are_excluded_do_not_count(data: Fer2013, tmp_path: Path) -> None:
    listed = tmp_path / "excluded.txt"
    listed.write_text("".join(f"p{i}\n" for i in range(0, 48, 2)))
    stage = Stage(**{**STILL, "learning_rate": 0.05})
    fewer = dataclasses.replace(
        data, partitions={**data.partitions, TRAINING: data.partition(TRAINING).take(slice(1, 48, 2))}
    )
    without = fit(data, dataclasses.replace(_recipe(stage), excluded=str(listed)), tmp_path / "without").model
    of_fewer = fit(fewer, _recipe(stage), tmp_path / "fewer").model
    for a, b in zip(without.get_weights(), of_fewer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"p3\nq3\n", "'q3', which is no picture"),
        ("\n".join(f"p{i}" for i in range(48)).encode(), "every picture"),
    ],
)
def test_a_wrong_list_of_what_is_excluded(data: Fer2013, tmp_path: Path, content: bytes | None, says: str) -> None:
    listed = tmp_path / "excluded.txt"
    if content is not None:
        listed.write_bytes(content)
    with pytest.raises(TrainingError, match=says) as caught:
        fit(data, dataclasses.replace(_recipe(Stage(**STILL)), excluded=str(listed)), tmp_path / "run")
    assert str(listed) in str(caught.value)


def test_of_paths_what_a_machine_calls_its_folders_is_excluded() -> None:
    settings = {"initial": "/home/me/runs/first/model.keras", "teachers": ("default", "/data/runs/lean/bundle"), "n": 1}
    assert as_json(settings) == {"initial": "first/model.keras", "teachers": ["default", "lean/bundle"], "n": 1}
