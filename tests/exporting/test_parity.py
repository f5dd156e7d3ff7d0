"""A file that computes something else than Keras is found out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.backends.base import Backend
from fer_deploy.backends.registry import backend_class
from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.data.fer2013 import Fer2013, Partition
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.errors import DataError, ModelError
from fer_deploy.exporting.parity import ImageSet, check_parity, parity_images

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fer-deploy[export]'")


@pytest.fixture(scope="module")
def pictures() -> ImageSet:
    return parity_images(None)


@pytest.fixture
def with_onnx(tiny_bundle: Bundle, tmp_path: Path) -> Callable[[bytes], Bundle]:
    """Returns a function that makes a bundle of the tiny Keras model and another ONNX file."""

    def make(content: bytes) -> Bundle:
        (tmp_path / "model.keras").write_bytes(tiny_bundle.read("keras"))
        (tmp_path / "model.onnx").write_bytes(content)
        artefacts = tuple(
            describe_file(tmp_path, f"model.{variant}", variant, "fp32", {}) for variant in ("keras", "onnx")
        )
        return Bundle(tmp_path, "changed", tiny_bundle.source_sha256, artefacts)

    return make


@pytest.fixture
def proto(tiny_bundle: Bundle) -> Any:
    return onnx.load_from_string(tiny_bundle.read("onnx"))


def answering(function: Callable[[Any], Any]) -> type[Backend]:
    """Makes a backend that answers as a function does."""

    class Fake(Backend):
        name, install, precisions = "fake", (), ("fp32", "bf16", "fp16", "int8", "int8-trt")

        def _load(self) -> None:
            self.runtime, self.effective = "fake 1", self.precision

        def _infer(self, batch: Any) -> Any:
            return np.asarray(function(batch), dtype=np.float32)

        def _unload(self) -> None: ...

    return Fake


def even(batch: Any) -> Any:
    return np.full((len(batch), 7), 1 / 7)


def test_runtimes_and_batches(tiny_bundle: Bundle, pictures: ImageSet) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'fer-deploy[onnx]'")
    results = check_parity(tiny_bundle, pictures)
    fp32 = [result for result in results if result.precision == "fp32"]
    assert [(r.backend, r.batch, r.n) for r in fp32] == [
        ("onnx", 1, 37), ("onnx", 37, 111), ("openvino", 1, 37), ("openvino", 37, 111),
    ]  # fmt: skip
    assert all(result.agreement == 1 and result.max_abs_difference <= 1e-5 for result in fp32)
    assert {result.pictures for result in results} == {"built-in probe set, 111 pictures"}
    fp16 = [result for result in results if result.precision == "fp16"]
    assert {(r.backend, r.batch, r.effective) for r in fp16} == {
        (name, batch, "fp32") for name in ("onnx", "openvino") for batch in (1, 37)
    }
    assert all(1e-6 < result.max_abs_difference < 0.02 for result in fp16)


def test_without_onnxruntime(tiny_bundle: Bundle, pictures: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert {result.backend for result in check_parity(tiny_bundle, pictures)} == {"openvino"}


def test_the_tiny_model_tells_the_pictures_apart(tiny_bundle: Bundle, pictures: ImageSet) -> None:
    """Else every other test that compares answers would prove little."""
    with backend_class("openvino")(tiny_bundle) as backend:
        predictions = backend.run(pictures.images)
    assert len(set(predictions.argmax(axis=1))) >= 4
    assert predictions.std(axis=0).max() > 0.1


def test_changed_weights_are_found(proto: Any, pictures: ImageSet, with_onnx: Callable[[bytes], Bundle]) -> None:
    weights = max(proto.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    changed = onnx.numpy_helper.to_array(weights) * np.float32(1.001)
    weights.CopyFrom(onnx.numpy_helper.from_array(changed, weights.name))
    with pytest.raises(ModelError, match=r"does not compute what Keras computes: .* at batch 1 differs by"):
        check_parity(with_onnx(proto.SerializeToString()), pictures)


def test_batch_that_is_not_free_is_found(proto: Any, pictures: ImageSet, with_onnx: Callable[[bytes], Bundle]) -> None:
    reshape = next(node for node in proto.graph.node if node.op_type == "Reshape")
    shape = next(tensor for tensor in proto.graph.initializer if tensor.name == reshape.input[1])
    shape.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 1, 48, 48]), shape.name))
    with pytest.raises(ModelError, match=r"does not run: .* batch of 37"):
        check_parity(with_onnx(proto.SerializeToString()), pictures)


def test_file_that_does_not_load(pictures: ImageSet, with_onnx: Callable[[bytes], Bundle]) -> None:
    with pytest.raises(ModelError, match="The exported fp32 file does not run") as caught:
        check_parity(with_onnx(b"\x08\x08"), pictures)  # an ONNX file without a graph
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", [(0, 0), (100, 3)])
@pytest.mark.parametrize("value", [np.nan, 2e-5])
def test_any_value_beyond_tolerance_is_found(
    tiny_bundle: Bundle, pictures: ImageSet, monkeypatch: pytest.MonkeyPatch, value: float, where: tuple[int, int]
) -> None:
    image, column = where

    def slightly_off(batch: Any) -> Any:
        predictions = even(batch)
        predictions[(batch == pictures.images[image]).all(axis=(1, 2, 3)), column] += value
        return predictions

    fakes = {"keras": answering(even), "onnx": answering(slightly_off), "openvino": answering(even)}
    monkeypatch.setattr("fer_deploy.exporting.parity.backend_class", fakes.__getitem__)
    with pytest.raises(ModelError, match=f"at batch {1 if image < 37 else 37} differs by"):
        check_parity(tiny_bundle, pictures)


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (lambda batch: np.tile(np.arange(7.0), (len(batch), 1)), "end it with a softmax layer"),
        (lambda batch: np.tile([-1.0, 2, 0, 0, 0, 0, 0], (len(batch), 1)), "end it with a softmax layer"),
        (lambda batch: np.full((len(batch), 7), np.nan), "not finite"),
    ],
)
def test_what_is_no_probability_is_refused(
    tiny_bundle: Bundle, pictures: ImageSet, monkeypatch: pytest.MonkeyPatch, prediction: Any, message: str
) -> None:
    monkeypatch.setattr("fer_deploy.exporting.parity.backend_class", lambda name: answering(prediction))
    with pytest.raises(ModelError, match=message):
        check_parity(tiny_bundle, pictures)


def test_a_data_set_without_test_pictures() -> None:
    with pytest.raises(DataError, match="has no partition PublicTest"):
        parity_images(dataset("Training"))


@pytest.mark.parametrize(("names", "chosen"), [(("Training", "PublicTest"), "PublicTest"), (("Test",), "Test")])
def test_unseen_pictures_are_chosen(names: tuple[str, ...], chosen: str) -> None:
    found = parity_images(dataset(*names))
    assert (found.name, found.images.shape) == (f"FER-2013 {chosen}, 40 pictures", (40, 48, 48, 1))


def dataset(*names: str) -> Fer2013:
    images = np.arange(40 * 48 * 48, dtype=np.uint32).astype(np.uint8).reshape(40, 48, 48)
    partition = Partition(images, np.zeros(40, np.uint8), tuple(map(str, range(40))))
    return Fer2013(Path("x"), "zip", dict.fromkeys(names, partition))


@pytest.mark.fer2013
def test_real_pictures(tiny_bundle: Bundle, fer2013_path: Path) -> None:
    real = parity_images(load_fer2013(fer2013_path))
    assert real.name == "FER-2013 PublicTest, 512 pictures"
    check_parity(tiny_bundle, real)
