"""Writes the two INT8 files: QuantizeLinear and DequantizeLinear around the convolutions, by ONNX Runtime's quantiser.

No single file suits both kinds of runtime. CPUs take uint8 activations, int32 biases and weights of 7 bits: without
VNNI they add two products of uint8 and int8 in 16 bits with saturation, and 2 x 255 x 64 = 32,640 still fits.
TensorRT takes int8 with zero points of 0, and float biases.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import ModelError
from fer_deploy.exporting.int8.graph import Array, Graph
from fer_deploy.exporting.int8.ranges import Range

CPU: Final = "int8"
TENSORRT: Final = "int8-trt"
LEVELS: Final = {CPU: 64, TENSORRT: 127}
"""The largest weight, in steps."""


def insert_qdq(
    proto: Any, kind: str, spans: Mapping[str, Range], scales: Mapping[str, Array], per_channel: bool
) -> Any:
    """Makes a QDQ model of a float model whose weights are already whole steps.

    Args:
        proto: ModelProto; convolution weights are multiples of ``scales``.
        kind: ``int8`` or ``int8-trt``.
        spans: Range of each activation that is quantised.
        scales: Name of a weight tensor -> scale of each output.
        per_channel: Whether weights have a scale per output, or one.

    Returns:
        A ModelProto.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    def given(scale: float) -> dict[str, Any]:
        return {"quant_type": QuantType.QInt8, "scale": np.float32(scale), "zero_point": np.int8(0)}

    overrides = {
        name: [{"axis": 0, **given(scale)} for scale in values] if per_channel else [given(values[0])]
        for name, values in scales.items()
    }
    on_cpu = kind == CPU
    ranges = {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in spans.items()}
    with _silent():
        quantizer = QDQQuantizer(
            proto,
            per_channel,
            on_cpu,
            QuantType.QInt8,
            QuantType.QUInt8 if on_cpu else QuantType.QInt8,
            TensorsData(CalibrationMethod.MinMax, ranges),
            [],
            _out_of_range(proto.graph, spans),
            # pooling between two convolutions stays in 8 bits; TensorRT sees to that by itself
            ["Conv", "Relu", "MaxPool"] if on_cpu else ["Conv"],
            {
                "ActivationSymmetric": not on_cpu,
                "WeightSymmetric": True,
                "QuantizeBias": on_cpu,
                "OpTypesToExcludeOutputQuantization": [] if on_cpu else ["Conv"],
                "TensorQuantOverrides": overrides,
                "QDQDisableWeightAdjustForInt32Bias": True,
            },
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    return quantizer.model.model


def check_weights(proto: Any, kind: str) -> None:
    """Refuses a QDQ file that would be wrong on some machine although it runs right on this one.

    Args:
        proto: ModelProto.
        kind: ``int8``: weights must be within -64..64, so that no sum of two products saturates, and scales float32.
            ``int8-trt``: zero points must be 0 and nothing unsigned. Both: there must be int8 weights.

    Raises:
        ModelError: It is not so.
    """
    graph = Graph(proto.graph)
    weights = list(_quantised_weights(graph))
    if not weights:
        raise ModelError(f"The {kind} file has no convolution with int8 weights: nothing in it is quantised")
    for node, steps in weights:
        largest = int(np.abs(steps.astype(np.int64)).max())
        if largest > LEVELS[kind]:
            raise ModelError(
                f"Weights of {node.name} in the {kind} file reach {largest} steps, at most {LEVELS[kind]} are right: "
                "uint8 x int8 products would saturate on CPUs without VNNI"
            )
    for node in graph.proto.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale = graph.constants[node.input[1]]
        if kind == CPU and scale.data_type != 1:  # FLOAT
            raise ModelError(
                f"The scale of {node.name} in the {kind} file is not float32: ONNX Runtime computes wrongly"
            )
        zero = graph.constants.get(node.input[2]) if len(node.input) > 2 else None
        if kind == TENSORRT and zero is not None and (zero.data_type != 3 or graph.value(zero.name).any()):  # INT8
            raise ModelError(f"The zero point of {node.name} in the {kind} file is not an int8 0: TensorRT refuses it")


def _out_of_range(graph: Any, spans: Mapping[str, Range]) -> list[str]:
    """The names of ReLUs and poolings that stay float, as a tensor beside them has no range."""
    beside = [node for node in graph.node if node.op_type in ("Relu", "MaxPool")]
    return [node.name for node in beside if not {node.input[0], node.output[0]} <= spans.keys()]


def _quantised_weights(graph: Graph) -> Iterator[tuple[Any, NDArray[np.generic]]]:
    """Yields each convolution or matrix product whose weights are stored in 8 bits, and these."""
    for node in graph.proto.node:
        if node.op_type in ("Conv", "MatMul", "Gemm"):
            maker = graph.producer.get(node.input[1])
            if maker is not None and maker.op_type == "DequantizeLinear" and maker.input[0] in graph.constants:
                yield node, graph.value(maker.input[0])


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Holds back what the quantiser prints and logs."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(before)
