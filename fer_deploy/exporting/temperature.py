"""Makes probabilities mean what they say: a temperature, fitted on PublicTest, goes into the last layer's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.bundle.reference_predictions import fingerprint
from fer_deploy.data.fer2013 import PUBLIC
from fer_deploy.data.probe import probe_images
from fer_deploy.errors import ModelError
from fer_deploy.exporting.inputs import LabelledImages
from fer_deploy.exporting.parity import KERAS_BATCH, check_probabilities
from fer_deploy.metrics.calibration import BINS, Reliability, fit_temperature, reliability, with_temperature

NEAR_ONE: Final = 5e-3
"""A temperature that near to 1 changes no probability by more than about 0.001: the model is left as it is."""
_LINEAR: Final = ("Dense", "Conv2D")
_SAME: Final = 1e-4
"""How far from what the temperature should give a folded network's probabilities may lie."""


@dataclass(frozen=True)
class TemperatureScaling:
    """What was fitted, and how the probabilities were before.

    Args:
        temperature: What the logits are divided by; 1 where the model was left as it is.
        fitted: What fitted best.
        n: Pictures that it was fitted on, those of PublicTest.
        fingerprint: SHA-256 of their pixels in their order.
        before: Test partition -> how well confidence fitted accuracy.
    """

    temperature: float
    fitted: float
    n: int
    fingerprint: str
    before: Mapping[str, Reliability]

    @property
    def folded(self) -> bool:
        """Whether the model's weights were changed."""
        return self.temperature != 1

    def as_dict(self, after: Mapping[str, Reliability]) -> dict[str, Any]:
        """For the manifest; errors are fractions.

        Args:
            after: As ``before``, of the bundle's Keras file.
        """
        figures = {
            name: {
                frame: {key: round(getattr(found[name], key), 6) for key in ("ece", "nll", "confidence")}
                for frame, found in (("before", self.before), ("after", after))
            }
            for name in self.before
        }
        return {
            "temperature": self.temperature,
            "fitted": self.fitted,
            "partition": PUBLIC,
            "n": self.n,
            "fingerprint": self.fingerprint,
            "bins": BINS,
            "reliability": figures,
        }


def fit_scaling(path: Path, model: Any, tests: Mapping[str, LabelledImages]) -> TemperatureScaling:
    """Fits the temperature and folds it into the model.

    Args:
        path: The model's file, for errors.
        model: A float32 Keras model of our contract; its last weights are changed in place.
        tests: Test partitions, PublicTest among them, which alone is fitted on.

    Raises:
        ModelError: Its outputs are no probabilities, or do not come from one linear layer and a softmax.
        UsageError: No temperature makes them fit.
    """
    predictions = {name: _predictions(model, images) for name, (images, _) in tests.items()}
    check_probabilities(predictions.values())
    images, labels = tests[PUBLIC]
    fitted = fit_temperature(predictions[PUBLIC], labels)
    before = {name: reliability(predictions[name], labels) for name, (_, labels) in tests.items()}
    temperature = 1.0 if abs(fitted - 1) <= NEAR_ONE else fitted
    if temperature != 1:
        fold(path, model, temperature)
    return TemperatureScaling(temperature, fitted, len(labels), fingerprint(images), before)


def fold(path: Path, model: Any, temperature: float) -> None:
    """Divides the weights and biases of a model's last layer by a temperature.

    Args:
        path: The model's file, for errors.
        model: A Keras model; changed in place.
        temperature: Above 0.

    Raises:
        ModelError: That does not do what dividing the logits does; the model is then as it was.
    """
    images = probe_images()
    wanted = with_temperature(_predictions(model, images), temperature)
    layer = _last_layer(model)
    kind = type(layer).__name__
    if kind in _LINEAR:
        own = layer.get_weights()
        layer.set_weights([weights / np.float32(temperature) for weights in own])
        if np.abs(_predictions(model, images) - wanted).max() <= _SAME:
            return
        layer.set_weights(own)
    found = "has no layer with weights" if layer is None else f"has a {kind} ({layer.name}) as its last layer of them"
    raise ModelError(
        f"A temperature cannot go into the weights of {path}: it {found}, where one of {' or '.join(_LINEAR)} with "
        "nothing but a softmax behind it is needed. Export it without a temperature"
    )


def _last_layer(model: Any) -> Any:
    """Finds the last layer with weights, also inside of models that are layers; None where there is none."""
    for layer in reversed(model.layers):
        if hasattr(layer, "layers"):
            if (inner := _last_layer(layer)) is not None:
                return inner
        elif layer.weights:
            return layer
    return None


def _predictions(model: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Runs pictures, shape (N, 48, 48, 1), through a Keras model in batches of one size, so that it is traced once."""
    parts = []
    for start in range(0, len(images), KERAS_BATCH):
        batch = images[start : start + KERAS_BATCH].astype(np.float32)
        padding = np.zeros((KERAS_BATCH - len(batch), *batch.shape[1:]), np.float32)
        parts.append(np.asarray(model.predict_on_batch(np.concatenate([batch, padding])))[: len(batch)])
    return np.concatenate(parts)
