"""The builder's own listing of what it built: which layer reads and writes which type.

An engine file that exists proves nothing about its precision; this does. TensorRT for RTX prints the listing while it
builds (verbose, with detailed profiling); TensorRT itself only tells from a loaded engine, on a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

_LAYER: Final = re.compile(
    r"^Name: (?P<name>[^,]*), LayerType: (?P<kind>\w+), Inputs: \[(?P<reads>.*)\], Constants: \[(?P<constants>.*)\], "
    r"Outputs: \[(?P<writes>.*)\], TacticName:"
)
_TYPE: Final = re.compile(r"Datatype: (\w+)")
_SHAPE: Final = re.compile(r"Dimensions: \[([^\]]*)\]")
_CONVOLUTIONS: Final = ("correlation", "convolution")
_EXPECTED: Final = {"fp32": "Float", "fp16": "Half", "int8-trt": "Int8"}
"""What the convolutions of an artefact must read, in TensorRT's words."""


@dataclass(frozen=True)
class Layer:
    """One layer of an engine; types are TensorRT's words (``Float``, ``Half``, ``Int8``, ...).

    Args:
        name: TensorRT's name for it.
        kind: ``correlation`` is a convolution, ``kgen`` a kernel generated for point-wise steps, ...
        reads: Types of its inputs.
        constants: Types of its weights and scales.
        writes: Types of its outputs.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    constants: tuple[str, ...]
    writes: tuple[str, ...]

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution."""
        return self.kind in _CONVOLUTIONS


def parse_layers(lines: Iterable[str]) -> tuple[Layer, ...]:
    """Finds the layers in the builder's messages; none where it printed no listing that we know."""
    found = (_LAYER.match(line) for text in lines for line in text.splitlines())
    return tuple(
        Layer(hit["name"], hit["kind"], *(tuple(_TYPE.findall(hit[part])) for part in ("reads", "constants", "writes")))
        for hit in found
        if hit
    )


def summary(layers: Iterable[Layer]) -> dict[str, Any]:
    """Counts for the manifest: layers, convolutions, and how many of those read and write which type."""
    known = tuple(layers)
    convolutions = [layer for layer in known if layer.is_convolution]
    types = [f"{'+'.join(layer.reads)} -> {'+'.join(layer.writes)}" for layer in convolutions]
    return {
        "layers": len(known),
        "convolutions": {kind: types.count(kind) for kind in sorted(set(types))},
        "generated_kernels": sum(layer.kind == "kgen" for layer in known),
    }


def wrong_convolutions(layers: Iterable[Layer], precision: str) -> list[str]:
    """Names the convolutions that do not read what an artefact of that precision must give them."""
    wanted = _EXPECTED[precision]
    return [layer.name for layer in layers if layer.is_convolution and layer.reads[:1] != (wanted,)]
