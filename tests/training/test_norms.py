"""Batch normalisation's statistics, taken anew."""

from __future__ import annotations

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from fer_deploy.training.model import build_model  # noqa: E402
from fer_deploy.training.norms import renew_norms  # noqa: E402


@pytest.fixture
def model() -> keras.Model:
    return build_model(widths=(4, 4, 8, 8), dense_units=8, dropout=(0.0,) * 5)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 48, 48, 1)).astype(np.float32)


def _numbers(variable: keras.Variable) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(variable))


def test_they_are_the_means_of_what_the_batches_have(model: keras.Model, pictures: np.ndarray) -> None:
    norm = model.get_layer("a1_norm1")
    before = [_numbers(weight) for weight in model.trainable_weights]
    renew_norms(model, pictures, batch_size=16)
    seen = keras.Model(model.inputs, model.get_layer("a1_conv1").output).predict(pictures, verbose=0)
    batches = seen.reshape(3, -1, seen.shape[-1])
    np.testing.assert_allclose(_numbers(norm.moving_mean), batches.mean(axis=1).mean(axis=0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(_numbers(norm.moving_variance), batches.var(axis=1).mean(axis=0), rtol=1e-2)
    for weight, was in zip(model.trainable_weights, before, strict=True):
        np.testing.assert_array_equal(_numbers(weight), was)


def test_what_was_there_before_does_not_count(model: keras.Model, pictures: np.ndarray) -> None:
    renew_norms(model, pictures, batch_size=16)
    expected = model.get_weights()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(keras.ops.ones_like(layer.moving_mean) * 1000)
            assert layer.momentum == 0.99
    renew_norms(model, pictures, batch_size=16)
    for one, other in zip(expected, model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_fewer_pictures_than_a_batch_are_one(model: keras.Model, pictures: np.ndarray) -> None:
    renew_norms(model, pictures[:5], batch_size=16)
    seen = keras.Model(model.inputs, model.get_layer("a1_conv1").output).predict(pictures[:5], verbose=0)
    mean = _numbers(model.get_layer("a1_norm1").moving_mean)
    np.testing.assert_allclose(mean, seen.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-5)
