"""What quantisation needs to know of an ONNX graph: its convolutions, what feeds them, and what stands between two.

Writes the two INT8 files: QuantizeLinear and DequantizeLinear around the convolutions, by ONNX Runtime's quantiser.

No single file suits both kinds of runtime. CPUs take uint8 activations, int32 biases and weights of 7 bits: without
VNNI they add two products of uint8 and int8 in 16 bits with saturation, and 2 x 255 x 64 = 32,640 still fits.
TensorRT takes int8 with zero points of 0, and float biases.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import ModelError

Array = NDArray[np.float64]
Range = tuple[float, float]
EQUAL_UNDER_SCALING: Final = (
    *("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Dropout"),
)
"""f(s x) = s f(x) for every s > 0, channel by channel: a factor may be moved through them."""
PIXELS_PASS: Final = ("Cast", "Reshape", "Transpose", "Identity", "Squeeze", "Unsqueeze", "Resize", "Round")
PIXEL_MAX: Final = 255
CPU: Final = "int8"
TENSORRT: Final = "int8-trt"
LEVELS: Final = {CPU: 64, TENSORRT: 127}
"""The largest weight, in steps."""


@dataclass(frozen=True)
class Convolution:
    """A convolution whose weights are constant.

    Args:
        node: The NodeProto.
        weights: Shape (out, in / groups, height, width).
        bias: Shape (out,); zeros where it has none.
        groups: As ONNX's ``group``.
        pads: Top, left, bottom, right.
        strides: Down, right.
        plain: Whether all of it is known and as usual: two dimensions, no dilation, explicit padding.
    """

    node: Any
    weights: Array
    bias: Array
    groups: int
    pads: tuple[int, ...]
    strides: tuple[int, ...]
    plain: bool

    @property
    def name(self) -> str:
        """The node's name."""
        return str(self.node.name)

    @property
    def source(self) -> str:
        """The tensor that it reads."""
        return str(self.node.input[0])

    @property
    def rows(self) -> Array:
        """The weights by group and output: shape (groups, out / groups, inputs of one output)."""
        return self.weights.reshape(self.groups, len(self.weights) // self.groups, -1)


class Graph:
    """A GraphProto with its constants, users and producers at hand; rebuilt after a change of structure."""

    def __init__(self, proto: Any) -> None:
        """Looks through a GraphProto, which is not copied."""
        from onnx import numpy_helper

        self.proto = proto
        self._to_array = numpy_helper.to_array
        self._from_array = numpy_helper.from_array
        self.constants = {tensor.name: tensor for tensor in proto.initializer}
        self.producer = {output: node for node in proto.node for output in node.output}
        self.users: dict[str, list[Any]] = {}
        for node in proto.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.outputs = {value.name for value in proto.output}

    def convolutions(self) -> list[Convolution]:
        """All convolutions with constant weights, in the order of the graph."""
        return list(self._convolutions())

    def _convolutions(self) -> Iterator[Convolution]:
        for node in self.proto.node:
            if node.op_type != "Conv" or any(name and name not in self.constants for name in node.input[1:]):
                continue
            attributes = {a.name: a for a in node.attribute}
            ints = {name: tuple(a.ints) for name, a in attributes.items() if a.ints}
            weights = self.value(node.input[1])
            auto_pad = attributes["auto_pad"].s if "auto_pad" in attributes else b"NOTSET"
            yield Convolution(
                node=node,
                weights=weights,
                bias=self.value(node.input[2]) if len(node.input) > 2 else np.zeros(len(weights)),
                groups=attributes["group"].i if "group" in attributes else 1,
                pads=ints.get("pads", (0, 0, 0, 0)),
                strides=ints.get("strides", (1, 1)),
                plain=weights.ndim == 4 and auto_pad in (b"NOTSET", b"") and set(ints.get("dilations", (1,))) == {1},
            )

    def value(self, name: str) -> Array:
        """A constant as float64."""
        return np.asarray(self._to_array(self.constants[name]), dtype=np.float64)

    def replace(self, node: Any, index: int, value: Array) -> None:
        """Gives a node a float32 constant of its own: the old one may be shared with other nodes."""
        name = f"{node.name}.own_{index}"
        tensor = self._from_array(np.ascontiguousarray(value, dtype=np.float32), name)
        if name in self.constants:
            self.constants[name].CopyFrom(tensor)
        else:
            self.proto.initializer.append(tensor)
            self.constants[name] = self.proto.initializer[-1]
        if index < len(node.input):
            node.input[index] = name
        else:
            node.input.append(name)

    def tracker(self, tensor: str) -> Any:
        """The only node that reads a tensor; None where there are several or it is an output of the graph."""
        users = self.users.get(tensor, [])
        return users[0] if len(users) == 1 and tensor not in self.outputs else None

    def activation(self, convolution: Convolution) -> str:
        """The tensor that leaves a convolution, after its ReLU if it has one to itself."""
        tensor = str(convolution.node.output[0])
        node = self.tracker(tensor)
        return str(node.output[0]) if node is not None and node.op_type == "Relu" else tensor

    def pixel_offset(self, tensor: str) -> float | None:
        """Says by how much a tensor lies above the picture's pixel values; None where it is no plain picture."""
        offset = 0.0
        while tensor not in {value.name for value in self.proto.input}:
            node = self.producer.get(tensor)
            if node is None:
                return None
            constants = [name for name in node.input if name in self.constants]
            if node.op_type == "Add" and len(constants) == 1 and self.value(constants[0]).size == 1:
                offset += float(self.value(constants[0]).reshape(()))
            elif node.op_type not in PIXELS_PASS:
                return None
            tensor = next((str(name) for name in node.input if name not in constants), "")
        return offset

    def prune(self) -> None:
        """Removes constants that nothing reads."""
        used = {name for node in self.proto.node for name in node.input}
        kept = [tensor for tensor in self.proto.initializer if tensor.name in used]
        del self.proto.initializer[:]
        self.proto.initializer.extend(kept)


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
