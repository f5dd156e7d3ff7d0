"""A file that computes something else than Keras is found out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.bundle import Bundle
from fer_deploy.errors import DataError, ModelError
from fer_deploy.exporting.parity import (
    PictureSet,
    Probabilities,
    check_parity,
    keras_probabilities,
    parity_pictures,
)
from fer_deploy.exporting.toolchain import Toolchain, import_toolchain

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fer-deploy[export]'")


@pytest.fixture(scope="module")
def tools() -> Toolchain:
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed: pip install 'fer-deploy[export]'")
    return import_toolchain()


@pytest.fixture(scope="module")
def pictures() -> PictureSet:
    return parity_pictures(None)


@pytest.fixture(scope="module")
def reference(tiny_bundle: Bundle, pictures: PictureSet, tools: Toolchain) -> Probabilities:
    model = tools.keras.saving.load_model(tiny_bundle.path / "model.keras", compile=False)
    return keras_probabilities(model, pictures.images, tools)


@pytest.fixture
def proto(tiny_bundle: Bundle) -> Any:
    return onnx.load_from_string(tiny_bundle.read("onnx"))


def test_runtimes_and_batches(tiny_bundle: Bundle, reference: Probabilities, pictures: PictureSet) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'fer-deploy[onnx]'")
    results = check_parity(tiny_bundle.path / "model.onnx", reference, pictures)
    assert [(r.backend, r.batch, r.n) for r in results] == [
        ("onnx", 1, 37), ("onnx", 37, 111), ("openvino", 1, 37), ("openvino", 37, 111),
    ]  # fmt: skip
    assert all(result.agreement == 1 and result.max_abs_difference <= 1e-5 for result in results)
    assert {result.pictures for result in results} == {"built-in probe set, 111 pictures"}


def test_without_onnxruntime(
    tiny_bundle: Bundle, reference: Probabilities, pictures: PictureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    results = check_parity(tiny_bundle.path / "model.onnx", reference, pictures)
    assert [result.backend for result in results] == ["openvino", "openvino"]


def test_the_tiny_model_tells_the_pictures_apart(reference: Probabilities) -> None:
    """Else every other test that compares answers would prove little."""
    assert len(set(reference.argmax(axis=1))) >= 3
    assert reference.std(axis=0).max() > 0.1


def test_changed_weights_are_found(proto: Any, reference: Probabilities, pictures: PictureSet, tmp_path: Path) -> None:
    weights = max(proto.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    changed = onnx.numpy_helper.to_array(weights) * np.float32(1.001)
    weights.CopyFrom(onnx.numpy_helper.from_array(changed, weights.name))
    onnx.save(proto, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"does not compute what Keras computes: .* at batch 1 differs by"):
        check_parity(tmp_path / "model.onnx", reference, pictures)


@pytest.mark.parametrize("value", [np.nan, 2e-5])
def test_any_value_beyond_tolerance_is_found(
    tiny_bundle: Bundle, reference: Probabilities, pictures: PictureSet, value: float
) -> None:
    wrong = reference.copy()
    wrong[100, 3] += value
    with pytest.raises(ModelError, match="at batch 37 differs by"):
        check_parity(tiny_bundle.path / "model.onnx", wrong, pictures)


def test_batch_that_is_not_free_is_found(
    proto: Any, reference: Probabilities, pictures: PictureSet, tmp_path: Path
) -> None:
    reshape = next(node for node in proto.graph.node if node.op_type == "Reshape")
    shape = next(tensor for tensor in proto.graph.initializer if tensor.name == reshape.input[1])
    shape.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 1, 48, 48]), shape.name))
    onnx.save(proto, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="batch 37"):
        check_parity(tmp_path / "model.onnx", reference, pictures)


def test_file_that_does_not_load(reference: Probabilities, pictures: PictureSet, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="does not load in the") as caught:
        check_parity(tmp_path / "model.onnx", reference, pictures)
    assert "\n" not in str(caught.value)


def test_logits_are_refused(pictures: PictureSet, tools: Toolchain) -> None:
    def logits(images: Any, training: bool) -> Any:
        return np.tile(np.arange(7.0), (len(images), 1))

    with pytest.raises(ModelError, match="end it with a softmax layer"):
        keras_probabilities(logits, pictures.images, tools)


def test_broken_weights_are_refused(pictures: PictureSet, tools: Toolchain) -> None:
    def broken(images: Any, training: bool) -> Any:
        return np.full((len(images), 7), np.nan)

    with pytest.raises(ModelError, match="not finite"):
        keras_probabilities(broken, pictures.images, tools)


def test_pictures_of_what_is_not_fer2013(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        parity_pictures(tmp_path)


@pytest.mark.parametrize(("names", "chosen"), [(("Training", "PublicTest"), "PublicTest"), (("Test",), "Test")])
def test_unseen_pictures_are_chosen(names: tuple[str, ...], chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fer_deploy.data.fer2013 import Fer2013, Partition

    def fake(_: Path) -> Fer2013:
        images = np.arange(40 * 48 * 48, dtype=np.uint32).astype(np.uint8).reshape(40, 48, 48)
        partition = Partition(images, np.zeros(40, np.uint8), tuple(map(str, range(40))))
        return Fer2013(Path("x"), "zip", dict.fromkeys(names, partition))

    monkeypatch.setattr("fer_deploy.data.load_fer2013", fake)
    found = parity_pictures(Path("x"))
    assert (found.name, found.images.shape) == (f"FER-2013 {chosen}, 40 pictures", (40, 48, 48, 1))


@pytest.mark.fer2013
def test_real_pictures(tiny_bundle: Bundle, fer2013_path: Path, tools: Toolchain) -> None:
    real = parity_pictures(fer2013_path)
    assert real.name == "FER-2013 PublicTest, 512 pictures"
    model = tools.keras.saving.load_model(tiny_bundle.path / "model.keras", compile=False)
    check_parity(tiny_bundle.path / "model.onnx", keras_probabilities(model, real.images, tools), real)
