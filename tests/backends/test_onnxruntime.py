"""What only ONNX Runtime has: it simulates TensorRT's INT8, and its ways onto GPUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.backends.onnxruntime import BoundSession, missing_library, provider_options
from fer_deploy.backends.select import open_backend
from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.errors import UnavailableError
from fer_deploy.system.gpus import ask_driver

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
IMAGES = np.random.default_rng(0).integers(0, 256, (16, 48, 48, 1), dtype=np.uint8)


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
        logits = np.log(backend.run(IMAGES))
    steps = (logits - logits[:, :1]) / 0.5
    np.testing.assert_allclose(steps, steps.round(), atol=1e-3)
    with open_backend(tiny_bundle, "onnx") as backend:
        assert not backend.simulated


def test_bound_tensors_give_the_same_answers(tiny_bundle: Bundle) -> None:
    """The way GPUs are fed, on the CPU's memory."""
    session = onnxruntime.InferenceSession(tiny_bundle.read("onnx"), providers=["CPUExecutionProvider"])
    bound = BoundSession(onnxruntime, session, "cpu")
    with open_backend(tiny_bundle, "onnx") as backend:
        for batch in (IMAGES, IMAGES[:3], IMAGES[::-2], IMAGES[3:6]):
            predictions = bound.run(batch)
            kept = predictions.copy()
            bound.run(batch[::-1])
            np.testing.assert_array_equal(predictions, kept)
            np.testing.assert_allclose(predictions, backend.run(batch), atol=1e-6)


def test_the_missing_library_is_named(tmp_path: Path) -> None:
    folder = Path(onnxruntime.__file__).parent / "capi"
    assert missing_library(tmp_path, "cuda").endswith("libonnxruntime_providers_shared.so")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers() and not ask_driver()["gpus"]:
        assert missing_library(folder, "cuda").startswith("lib")


def test_tensorrt_takes_no_int8_file_of_cpus(tiny_bundle: Bundle) -> None:
    artefact = tiny_bundle.find("onnx")
    assert artefact is not None
    bundle = replace(tiny_bundle, artefacts=(replace(artefact, precision="int8"),))
    with pytest.raises(UnavailableError, match="ask for --precision int8-trt"):
        open_backend(bundle, "onnx", "int8", device="tensorrt")


def test_what_providers_are_told() -> None:
    assert provider_options("cuda") == {"use_tf32": "0"}
    reported = provider_options("tensorrt")
    assert not {"trt_fp16_enable", "trt_int8_enable"} & reported.keys()  # with either, types are TensorRT's choice
    assert reported["trt_profile_max_shapes"] == "image:256x48x48x1"
    assert "trt_engine_cache_enable" not in reported
