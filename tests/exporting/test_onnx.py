"""The ONNX file keeps the contract, and computes what Keras computes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fer_deploy import __version__
from fer_deploy.bundle.manifest import Bundle, input_contract
from fer_deploy.data.probe import probe_images
from fer_deploy.errors import ModelError
from fer_deploy.exporting.onnx import Toolchain, convert
from fer_deploy.labels import LABELS

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fer-deploy[export]'")


@pytest.fixture
def graph(tiny_bundle: Bundle) -> Any:
    return onnx.load_from_string(tiny_bundle.read("onnx"))


def describe(value: Any) -> tuple[str, int, list[Any]]:
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]


def test_inputs_and_outputs(graph: Any) -> None:
    assert [describe(value) for value in graph.graph.input] == [("image", onnx.TensorProto.UINT8, ["N", 48, 48, 1])]
    assert [describe(value) for value in graph.graph.output] == [("probabilities", onnx.TensorProto.FLOAT, ["N", 7])]
    assert [(entry.domain, entry.version) for entry in graph.opset_import if not entry.domain] == [("", 17)]


def test_metadata(graph: Any, tiny_bundle: Bundle) -> None:
    found = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(found["labels"]) == list(LABELS)
    assert json.loads(found["input"]) == input_contract()
    assert found["fer_deploy_version"] == __version__
    assert found["source_sha256"] == tiny_bundle.source_sha256


def test_normalisations_and_scaling_are_folded(graph: Any) -> None:
    kinds = [node.op_type for node in graph.graph.node]
    assert kinds.count("Conv") == 8
    assert kinds.count("MatMul") + kinds.count("Gemm") == 2
    assert set(kinds) <= {"Cast", "Reshape", "Conv", "Relu", "MaxPool", "GlobalAveragePool", "Squeeze", "MatMul", "Add",
                          "Gemm", "Softmax", "Flatten"}  # fmt: skip
    assert kinds.count("Add") <= 2  # the biases of the two dense layers


def test_padded_first_convolution_keeps_one_addition(make_model: Callable[..., Any], tools: Toolchain) -> None:
    model = make_model(stem_stride=2, unpadded=0)
    proto = onnx.load_from_string(convert(model, "0" * 64, tools))
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds[: kinds.index("Conv")].count("Add") == 1
    assert "Mul" not in kinds
    assert_like_keras(proto.SerializeToString(), model, batch=37)


@pytest.mark.parametrize("batch", [1, 2, 37, 111])
def test_same_as_keras_at_any_batch(
    make_model: Callable[..., Any], tools: Toolchain, tiny_bundle: Bundle, batch: int
) -> None:
    model = tools.keras.saving.load_model(tiny_bundle.path / "model.keras", compile=False)
    assert_like_keras(tiny_bundle.read("onnx"), model, batch)


def assert_like_keras(file: bytes, model: Any, batch: int) -> None:
    onnxruntime = pytest.importorskip(
        "onnxruntime", reason="onnxruntime is not installed: pip install 'fer-deploy[onnx]'"
    )
    images = probe_images()[:batch]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = session.run(["probabilities"], {"image": images})[0]
    np.testing.assert_allclose(found, np.asarray(model(images.astype(np.float32), training=False)), rtol=0, atol=1e-5)


def test_conversion_is_reproducible(tiny_model_path: Any, tools: Toolchain) -> None:
    model = tools.keras.saving.load_model(tiny_model_path, compile=False)
    assert convert(model, "0" * 64, tools) == convert(model, "0" * 64, tools)


def test_random_layers_at_inference_are_refused(tools: Toolchain) -> None:
    class AlwaysNoisy(tools.keras.layers.Layer):  # type: ignore[name-defined, misc]
        def call(self, x: Any) -> Any:
            return x + tools.tensorflow.random.uniform(tools.tensorflow.shape(x))

    layers = tools.keras.layers
    stack = [layers.Input((48, 48, 1)), AlwaysNoisy(), layers.Flatten(), layers.Dense(7, activation="softmax")]
    with pytest.raises(ModelError, match=r"random operations at inference|does not convert"):
        convert(tools.keras.Sequential(stack), "0" * 64, tools)


def test_what_onnx_cannot_express_is_refused_in_one_line(tools: Toolchain) -> None:
    class Strange(tools.keras.layers.Layer):  # type: ignore[name-defined, misc]
        def call(self, x: Any) -> Any:
            return tools.tensorflow.math.lgamma(x)

    layers = tools.keras.layers
    stack = [layers.Input((48, 48, 1)), Strange(), layers.Flatten(), layers.Dense(7, activation="softmax")]
    with pytest.raises(ModelError, match="does not convert to ONNX") as caught:
        convert(tools.keras.Sequential(stack), "0" * 64, tools)
    assert "\n" not in str(caught.value)
