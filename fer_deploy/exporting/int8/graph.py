"""What quantisation needs to know of an ONNX graph: its convolutions, what feeds them, and what stands between two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EQUAL_UNDER_SCALING: Final = (
    *("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Dropout"),
)
"""f(s x) = s f(x) for every s > 0, channel by channel: a factor may be moved through them."""
PIXELS_PASS: Final = ("Cast", "Reshape", "Transpose", "Identity", "Squeeze", "Unsqueeze", "Resize", "Round")
PIXEL_MAX: Final = 255


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

    def follower(self, tensor: str) -> Any:
        """The only node that reads a tensor; None where there are several or it is an output of the graph."""
        users = self.users.get(tensor, [])
        return users[0] if len(users) == 1 and tensor not in self.outputs else None

    def activation(self, convolution: Convolution) -> str:
        """The tensor that leaves a convolution, after its ReLU if it has one to itself."""
        tensor = str(convolution.node.output[0])
        node = self.follower(tensor)
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
