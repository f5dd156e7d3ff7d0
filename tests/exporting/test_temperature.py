"""A temperature in the last layer: known ones are found again, and no answer changes."""

from __future__ import annotations

import dataclasses
import hashlib
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.bundle.manifest import Bundle
from fer_deploy.bundle.reference_predictions import fingerprint, read_outputs
from fer_deploy.data.probe import probe_images
from fer_deploy.errors import ModelError, UsageError
from fer_deploy.exporting.export_recipe import ExportRecipe
from fer_deploy.exporting.exporter import export_bundle
from fer_deploy.exporting.inputs import LabelledImages
from fer_deploy.exporting.temperature import fit_scaling, fold
from fer_deploy.metrics.calibration import with_temperature

pytest.importorskip("tensorflow", reason="TensorFlow is not installed: pip install 'fer-deploy[export]'")
TIMES = 20


def predictions(model: Any, images: np.ndarray) -> np.ndarray:
    return np.asarray(model.predict_on_batch(images.astype(np.float32)))


def drawn_labels(probabilities: np.ndarray, seed: int) -> np.ndarray:
    """Labels as likely as the probabilities say."""
    chance = np.random.default_rng(seed).random((len(probabilities), 1))
    return np.minimum((probabilities.cumsum(axis=1) < chance).sum(axis=1), 6).astype(np.uint8)


def scaled(model: Any, factor: float) -> Any:
    """Multiplies the logits of the tiny model."""
    layer = model.layers[-1]
    layer.set_weights([weights * factor for weights in layer.get_weights()])
    return model


def test_logits_scaled_by_a_known_factor_are_scaled_back(make_model: Callable[..., Any]) -> None:
    images = probe_images()
    model = make_model()
    truth = predictions(model, images)
    many = LabelledImages(np.tile(images, (TIMES, 1, 1, 1)), drawn_labels(np.tile(truth, (TIMES, 1)), 1))
    scaled(model, 2.5)
    spoilt = predictions(model, images)
    made = fit_scaling(Path("model.keras"), model, {"PublicTest": many})
    found = predictions(model, images)
    assert made.temperature == pytest.approx(2.5, rel=0.1)
    assert made.folded
    assert (made.n, made.fingerprint) == (len(many.labels), fingerprint(many.images))
    assert np.abs(found - with_temperature(spoilt, made.temperature)).max() < 1e-5
    assert (found.argmax(axis=1) == truth.argmax(axis=1)).all()
    assert np.abs(found - truth).max() < 0.05 < np.abs(spoilt - truth).max()
    again = fit_scaling(Path("model.keras"), model, {"PublicTest": many})
    assert (again.temperature, again.folded) == (1, False)
    assert predictions(model, images).tobytes() == found.tobytes()


def _networks() -> dict[str, Callable[[Any], Any]]:
    """Ends of networks that a temperature can go into, and some that it cannot."""

    def dense(keras: Any) -> Any:
        return [keras.layers.Flatten(), keras.layers.Dense(7, activation="softmax")]

    def apart(keras: Any) -> Any:
        return [keras.layers.Flatten(), keras.layers.Dense(7), keras.layers.Softmax()]

    def convolution(keras: Any) -> Any:
        last = keras.layers.Conv2D(7, 3, strides=8)
        return [last, keras.layers.GlobalAveragePooling2D(), keras.layers.Activation("softmax")]

    def nested(keras: Any) -> Any:
        return [keras.Sequential([keras.layers.Input((48, 48, 1)), *apart(keras)])]

    def normalised(keras: Any) -> Any:
        return [*apart(keras)[:2], keras.layers.BatchNormalization(), keras.layers.Softmax()]

    def squashed(keras: Any) -> Any:
        return [keras.layers.Flatten(), keras.layers.Dense(7, activation="tanh"), keras.layers.Softmax()]

    def without(keras: Any) -> Any:
        return [keras.layers.AveragePooling2D((48, 7)), keras.layers.Flatten(), keras.layers.Softmax()]

    parts = (dense, apart, convolution, nested, normalised, squashed, without)
    return {part.__name__: part for part in parts}


def _network(name: str) -> Any:
    import keras

    keras.utils.set_random_seed(3)
    layers = [keras.layers.Input((48, 48, 1)), keras.layers.Rescaling(1 / 64), *_networks()[name](keras)]
    return keras.Sequential(layers)


@pytest.mark.parametrize("name", ["dense", "apart", "convolution", "nested"])
def test_it_goes_into_every_linear_end(name: str) -> None:
    model, images = _network(name), probe_images()
    before = predictions(model, images)
    fold(Path("model.keras"), model, 0.6)
    assert np.abs(predictions(model, images) - with_temperature(before, 0.6)).max() < 1e-5
    assert np.abs(predictions(model, images) - before).max() > 0.01


@pytest.mark.parametrize(
    ("name", "reported"), [("normalised", "BatchNormalization"), ("squashed", "has a Dense"), ("without", "no layer")]
)
def test_other_ends_are_refused_and_left_as_they_are(name: str, reported: str) -> None:
    model, images = _network(name), probe_images()
    before = predictions(model, images)
    with pytest.raises(ModelError, match=rf"mine\.keras: it.*{reported}"):
        fold(Path("mine.keras"), model, 0.6)
    assert predictions(model, images).tobytes() == before.tobytes()


@pytest.fixture(scope="module")
def fitted(tiny_model_path: Path, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny model, exported with a temperature for labels that are less sure than it is."""
    outputs = read_outputs(tiny_bundle)
    assert outputs is not None
    labels = drawn_labels(with_temperature(outputs.probe, 2.5), 2)
    rows = [f"{label},{' '.join(map(str, image.ravel()))}" for label, image in zip(labels, probe_images(), strict=True)]
    table = tmp_path_factory.mktemp("labelled") / "fer2013.csv"
    usages = ("PublicTest", "PrivateTest")
    lines = [f"{row},{usage}" for usage in usages for row in rows]
    table.write_text("\n".join(["emotion,pixels,Usage", *lines]) + "\n", encoding="utf-8")
    folder = tmp_path_factory.mktemp("bundles") / "fitted"
    return export_bundle(
        tiny_model_path, folder, data=table, precisions=["fp32"], recipe=ExportRecipe(fit_temperature=True)
    )


def test_an_export_records_what_it_fitted(fitted: Bundle, tiny_bundle: Bundle) -> None:
    before, after, keras = read_outputs(tiny_bundle), read_outputs(fitted), fitted.find("keras")
    assert before is not None
    assert after is not None
    assert keras is not None
    made = keras.made_with["temperature"]
    public = made["reliability"]["PublicTest"]
    assert made["source_sha256"] == tiny_bundle.source_sha256
    assert (made["partition"], made["n"], made["bins"]) == ("PublicTest", 111, 15)
    assert made["fingerprint"] == after.partitions["PublicTest"].fingerprint
    assert made["temperature"] > 1.5
    assert np.abs(after.probe - with_temperature(before.probe, made["temperature"])).max() < 1e-5
    assert (after.probe.argmax(axis=1) == before.probe.argmax(axis=1)).all()
    assert public["after"]["nll"] < public["before"]["nll"]
    assert public["after"]["ece"] < public["before"]["ece"]
    assert made["reliability"]["PrivateTest"] == public


def test_the_fitted_model_is_what_the_bundle_is_made_from(fitted: Bundle, tiny_bundle: Bundle) -> None:
    """Records and resumed runs tell bundles apart by this digest, and these give other probabilities."""
    assert fitted.source_sha256 == hashlib.sha256(fitted.read("keras")).hexdigest()
    assert fitted.source_sha256 != tiny_bundle.source_sha256


def test_without_public_test_it_says_so_at_once(tiny_model_path: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    with pytest.raises(UsageError, match=r"fitted on PublicTest.*--data"):
        export_bundle(
            tiny_model_path, tmp_path / "bundle", recipe=ExportRecipe(fit_temperature=True), report=lines.append
        )
    assert not any("TensorFlow" in line for line in lines)


def test_the_command_tells_it(fitted: Bundle, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    from fer_deploy.cli.export import _as_json, _print_tables

    _print_tables(fitted)
    reported = capsys.readouterr().out
    keras = fitted.find("keras")
    assert keras is not None
    made = keras.made_with["temperature"]
    assert f"Temperature {made['temperature']:.3f}, fitted on 111 pictures of PublicTest\n" in reported
    found = made["reliability"]["PublicTest"]
    before, after = found["before"]["ece"], found["after"]["ece"]
    assert f"PublicTest: expected calibration error {before:.2%} before, {after:.2%} after\n" in reported
    assert _as_json(fitted)["bundle"]["temperature"] == made
    assert _as_json(tiny_bundle)["bundle"]["temperature"] is None


def test_a_remade_bundle_keeps_what_is_known_of_its_model(fitted: Bundle, tiny_bundle: Bundle) -> None:
    """``export/reproduce.py`` from the shipped model, with a temperature for the first time or after that."""
    script = runpy.run_path(str(Path(__file__).parents[2] / "export/reproduce.py"))
    before = dataclasses.replace(tiny_bundle, training={"recipe": "mine"})
    first = script["with_history"](fitted, before)
    assert first.training == before.training
    assert first.artefacts == fitted.artefacts
    bare = tuple(dataclasses.replace(a, made_with={}) if a.format == "keras" else a for a in fitted.artefacts)
    again = script["with_history"](dataclasses.replace(fitted, artefacts=bare), first)
    assert again.training == before.training
    assert again.find("keras").made_with == {"temperature": fitted.find("keras").made_with["temperature"]}
    assert script["with_history"](fitted, dataclasses.replace(before, source_sha256="0" * 64)) == fitted
