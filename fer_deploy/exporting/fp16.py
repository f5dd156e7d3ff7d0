"""ONNX fp32 -> fp16: weights and everything between the picture and the softmax in half precision.

Own code, since the converters at hand are worse: ONNX Runtime's leaves nodes unsorted, and onnxconverter-common would
be one more package for these few lines. Input and output stay uint8 and float32, and so does the softmax, whose rows
would not sum to 1 closely in halves.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from fer_deploy.errors import ModelError, one_line

FLOAT32_INPUTS: Final = {"Resize": (1, 2)}
"""Inputs that ONNX wants in float32 whatever the rest is in: regions and scales."""
PIXELS: Final = ("Cast", "Reshape", "Transpose", "Resize", "Round")
"""What may be done to the picture itself, before anything is computed of it."""
LARGEST: Final = float(np.finfo(np.float16).max)


def to_fp16(content: bytes) -> bytes:
    """Converts an ONNX fp32 file.

    Args:
        content: The file, as ``exporting.onnx.convert`` makes it.

    Returns:
        An ONNX file of the same contract.

    Raises:
        ModelError: A weight is too large for fp16, or the result is not valid.
    """
    import onnx

    proto = onnx.load_from_string(content)
    graph, kinds = proto.graph, onnx.TensorProto
    kept = {node.input[i] for node in graph.node for i in FLOAT32_INPUTS.get(node.op_type, ()) if i < len(node.input)}
    for tensor in graph.initializer:
        if tensor.data_type == kinds.FLOAT and tensor.name not in kept:
            tensor.CopyFrom(_halved(tensor))
    resized = _resized(graph)
    for node in graph.node:
        if resized and node.output[0] in resized:
            continue
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == kinds.FLOAT:
                attribute.i = kinds.FLOAT16
            elif attribute.t.data_type == kinds.FLOAT and not kept.intersection(node.output):
                attribute.t.CopyFrom(_halved(attribute.t))
    del graph.value_info[:]
    if resized:
        _cast_after(graph, resized[-1])
    _cast_back(graph)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # of several types
        raise ModelError(f"The model does not convert to fp16: {one_line(error)}") from error
    converted: bytes = proto.SerializeToString()
    return converted


def _halved(tensor: Any) -> Any:
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    if not (np.abs(values) <= LARGEST).all():
        raise ModelError(f"{tensor.name} holds values beyond {LARGEST:,.0f}: the model cannot be brought to fp16")
    return numpy_helper.from_array(values.astype(np.float16), tensor.name)


def _resized(graph: Any) -> list[str]:
    """The tensors from the picture to its resized form, in order; none where it is not resized.

    They stay in float32: halves have eighths at most above 128, and a rounding after that takes other whole numbers.
    """
    tensors, tensor, kinds = [], graph.input[0].name, set()
    while len(users := [node for node in graph.node if tensor in node.input]) == 1 and users[0].op_type in PIXELS:
        tensor = users[0].output[0]
        tensors.append(tensor)
        kinds.add(users[0].op_type)
    return tensors if "Resize" in kinds else []


def _cast_after(graph: Any, tensor: str) -> None:
    """Casts a tensor to fp16 for all that read it."""
    from onnx import TensorProto, helper

    half = f"{tensor}.fp16"
    for node in graph.node:
        node.input[:] = [half if name == tensor else name for name in node.input]
    position = next(i for i, node in enumerate(graph.node) if tensor in node.output)
    cast = helper.make_node("Cast", [tensor], [half], name="cast_pixels", to=TensorProto.FLOAT16)
    graph.node.insert(position + 1, cast)


def _cast_back(graph: Any) -> None:
    """Casts to float32 before the last softmax, or at the very end where that is no softmax."""
    from onnx import TensorProto, helper

    output = graph.output[0].name
    position, last = next((i, node) for i, node in enumerate(graph.node) if output in node.output)
    if last.op_type == "Softmax":
        half = last.input[0]
        last.input[0] = f"{half}.float32"
    else:
        half = f"{output}.fp16"
        last.output[list(last.output).index(output)] = half
        position += 1
    casted = last.input[0] if last.op_type == "Softmax" else output
    graph.node.insert(position, helper.make_node("Cast", [half], [casted], name="cast_back", to=TensorProto.FLOAT))
