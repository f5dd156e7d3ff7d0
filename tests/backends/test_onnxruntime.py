"""What only ONNX Runtime has: it simulates TensorRT's INT8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.backends.select import open_backend
from fer_deploy.bundle import Bundle, describe_file

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
PICTURES = np.random.default_rng(0).integers(0, 256, (16, 48, 48, 1), dtype=np.uint8)


@pytest.fixture
def quantised(tiny_bundle: Bundle, tmp_path: Path) -> Callable[[float], Bundle]:
    """Returns a function that rounds the logits of the tiny model to int8 steps of a given size."""

    def make(step: float) -> Bundle:
        proto = onnx.load_from_string(tiny_bundle.read("onnx"))
        softmax = proto.graph.node[-1]
        logits = softmax.input[0]
        constants = [np.float32(step), np.int8(0)]
        names = ["scale", "zero"]
        pairs: list[tuple[str, Any]] = list(zip(names, constants, strict=True))
        proto.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in pairs)
        quantise = onnx.helper.make_node("QuantizeLinear", [logits, *names], ["q"])
        dequantise = onnx.helper.make_node("DequantizeLinear", ["q", *names], ["dq"])
        proto.graph.node.insert(len(proto.graph.node) - 1, quantise)
        proto.graph.node.insert(len(proto.graph.node) - 1, dequantise)
        softmax.input[0] = "dq"
        (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
        artefact = describe_file(tmp_path, "model.onnx", "onnx", "int8-trt", {})
        return replace(tiny_bundle, path=tmp_path, artefacts=(artefact,))

    return make


def test_int8_trt_is_simulated_and_says_so(quantised: Callable[[float], Bundle], tiny_bundle: Bundle) -> None:
    with open_backend(quantised(0.5), "onnx", "int8-trt") as backend:
        assert (backend.precision, backend.effective, backend.simulated) == ("int8-trt", "int8", True)
        logits = np.log(backend.run(PICTURES))
    steps = (logits - logits[:, :1]) / 0.5
    np.testing.assert_allclose(steps, steps.round(), atol=1e-3)
    with open_backend(tiny_bundle, "onnx") as backend:
        assert not backend.simulated
