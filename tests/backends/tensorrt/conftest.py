"""Models and bundles for TensorRT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.backends.tensorrt.flavour import Flavour, import_flavour
from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.errors import MissingDependencyError, UnavailableError


@pytest.fixture(scope="session")
def rtx() -> Flavour:
    """TensorRT for RTX, whose builder needs no GPU."""
    try:
        flavour = import_flavour(for_target="sm86")
    except (MissingDependencyError, UnavailableError) as reason:
        pytest.skip(str(reason))
    if not flavour.is_rtx:
        pytest.skip("TensorRT for RTX is not installed: pip install 'fer-deploy[rtx]'")
    return flavour


@pytest.fixture
def trt_bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """The tiny model in fp32, fp16 and int8-trt."""
    onnx = pytest.importorskip("onnx")
    models = {
        "fp32": tiny_bundle.read("onnx"),
        "fp16": _in_half(onnx, tiny_bundle.read("onnx")),
        "int8-trt": _quantised(onnx, tiny_bundle.read("onnx")),
    }
    artefacts = []
    for precision, content in models.items():
        file = f"model.{precision}.onnx"
        (tmp_path / file).write_bytes(content)
        artefacts.append(describe_file(tmp_path, file, "onnx", precision, {}))
    return replace(tiny_bundle, path=tmp_path, artefacts=tuple(artefacts))


def _in_half(onnx: Any, content: bytes) -> bytes:
    """Turns every float32 value of a graph into float16, but for its input and output."""
    proto = onnx.load_from_string(content)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(half, tensor.name))
    for node in proto.graph.node:
        if node.op_type == "Cast":
            node.attribute[0].i = onnx.TensorProto.FLOAT16
    last = proto.graph.node[-1]
    name, last.output[0] = last.output[0], "half"
    proto.graph.node.append(onnx.helper.make_node("Cast", ["half"], [name], to=onnx.TensorProto.FLOAT))
    return bytes(proto.SerializeToString())


def _quantised(onnx: Any, content: bytes) -> bytes:
    """Puts Q/DQ with made-up scales before every convolution, as the exported int8-trt file has them."""
    proto = onnx.load_from_string(content)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    nodes = []

    def constant(name: str, value: Any) -> str:
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    for node in proto.graph.node:
        if node.op_type == "Conv":
            weights = onnx.numpy_helper.to_array(tensors[node.input[1]])
            scale = np.float32(np.abs(weights).max() / 127)
            zero, step = constant(f"{node.name}.zero", np.int8(0)), constant(f"{node.name}.step", np.float32(0.1))
            whole = constant(f"{node.name}.whole", np.rint(weights / scale).astype(np.int8))
            unit = constant(f"{node.name}.scale", scale)
            q, dq, w = (f"{node.name}.{part}" for part in ("q", "dq", "w"))
            nodes += [
                onnx.helper.make_node("QuantizeLinear", [node.input[0], step, zero], [q]),
                onnx.helper.make_node("DequantizeLinear", [q, step, zero], [dq]),
                onnx.helper.make_node("DequantizeLinear", [whole, unit, zero], [w]),
            ]
            node.input[:2] = [dq, w]
        nodes.append(node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    return bytes(proto.SerializeToString())
