"""ONNX fp32 -> fp16: weights and everything between the picture and the softmax in half precision.

Own code, since the converters at hand are worse: ONNX Runtime's leaves nodes unsorted, and onnxconverter-common would
be one more package for these few lines. Input and output stay uint8 and float32, and so does the softmax, whose rows
would not sum to 1 closely in halves.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from fer_deploy.errors import ModelError

FLOAT32_INPUTS: Final = {"Resize": (1, 2)}
"""Inputs that ONNX wants in float32 whatever the rest is in: regions and scales."""
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
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == kinds.FLOAT:
                attribute.i = kinds.FLOAT16
            elif attribute.t.data_type == kinds.FLOAT and not kept.intersection(node.output):
                attribute.t.CopyFrom(_halved(attribute.t))
    del graph.value_info[:]
    _cast_back(graph)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # of several types
        raise ModelError(f"The model does not convert to fp16: {' '.join(str(error).split())[:300]}") from error
    converted: bytes = proto.SerializeToString()
    return converted


def _halved(tensor: Any) -> Any:
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    if not (np.abs(values) <= LARGEST).all():
        raise ModelError(f"{tensor.name} holds values beyond {LARGEST:,.0f}: the model cannot be brought to fp16")
    return numpy_helper.from_array(values.astype(np.float16), tensor.name)


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
