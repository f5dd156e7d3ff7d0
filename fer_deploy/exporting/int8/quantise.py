"""INT8 by calibration: equalise, observe, choose ranges, round weights, write Q/DQ.

Quantised are the convolutions, which are 99 % of the work. Dense layers stay float: they would gain nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import MissingDependencyError, ModelError
from fer_deploy.exporting.export_recipe import Quantisation
from fer_deploy.exporting.fp16 import to_fp16
from fer_deploy.exporting.int8.graph import (
    CPU,
    LEVELS,
    PIXEL_MAX,
    TENSORRT,
    Array,
    Convolution,
    Graph,
    Range,
    check_weights,
    insert_qdq,
)
from fer_deploy.exporting.int8.observe import Extent, Patches, choose_range, extents, histograms, patches, step
from fer_deploy.exporting.int8.weights import equalise, round_weights

CENTRE = 128.0
HALF_OPSET = 19
"""The first in which Q/DQ take scales in fp16."""


@dataclass(frozen=True)
class Observed:
    """An equalised model and what calibration pictures showed of it.

    Args:
        proto: The ModelProto, float32.
        counts: Tensor -> histogram (counts, edges).
        patches: Convolution's name -> sums over its input patches.
        images: Calibration pictures.
        pairs: Pairs of convolutions that were equalised.
    """

    proto: Any
    counts: Mapping[str, tuple[NDArray[np.int64], Array]]
    patches: Mapping[str, Patches]
    images: int
    pairs: int


def quantise(content: bytes, images: NDArray[np.uint8], recipe: Quantisation, kinds: Sequence[str]) -> dict[str, bytes]:
    """Quantises an ONNX fp32 file.

    Args:
        content: The file, as ``exporting.onnx.convert`` makes it.
        images: Calibration pictures, uint8, shape (N, 48, 48, 1).
        recipe: How.
        kinds: ``int8``, ``int8-trt`` or both.

    Returns:
        Precision -> file, in the same contract.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        ModelError: The model has no convolution that can be quantised, or the result would be wrong somewhere.
    """
    observed = observe(content, images, recipe)
    return {kind: write(observed, recipe, kind) for kind in kinds}


def quantiser() -> dict[str, str]:
    """The quantiser's package and version, for the manifest."""
    import onnxruntime

    return {"onnxruntime": str(onnxruntime.__version__)}


def observe(content: bytes, images: NDArray[np.uint8], recipe: Quantisation) -> Observed:
    """Equalises a model and runs the calibration pictures through it; see ``quantise``."""
    try:
        import onnx
        import onnxruntime.quantization  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"What an INT8 export needs ({error.name})", "fer-deploy[export,onnx]", "fer-deploy[export,gpu]"
        ) from error
    proto = onnx.load_from_string(content)
    graph = Graph(proto.graph)
    convolutions = graph.convolutions()
    if not convolutions:
        raise ModelError("The model has no convolution with constant weights: there is nothing to quantise to INT8")
    if recipe.equalise > 0:
        seen = extents(proto, sorted({c.source for c in convolutions}), images)
        largest = {name: np.maximum(np.abs(e.low), np.abs(e.high)) for name, e in seen.items()}
        pairs = equalise(graph, largest, recipe.equalise)
        graph.prune()
        graph = Graph(proto.graph)
    else:
        pairs = 0
    tensors = _activations(graph)
    bounds = {name: _bounds(extent) for name, extent in extents(proto, tensors, images).items()}
    sums = patches(proto, graph.convolutions(), images, recipe.seed) if recipe.rounding == "compensated" else {}
    return Observed(proto, histograms(proto, bounds, images), sums, len(images), pairs)


def write(observed: Observed, recipe: Quantisation, kind: str) -> bytes:
    """Makes one of the two files of what was observed; see ``quantise``."""
    import onnx

    proto = onnx.ModelProto()
    proto.CopyFrom(observed.proto)
    graph = Graph(proto.graph)
    symmetric = kind == TENSORRT
    half = symmetric and recipe.half_trt
    spans = {
        name: choose_range(*counts, recipe.method, percentile=recipe.percentile, symmetric=symmetric)
        for name, counts in observed.counts.items()
    }
    centred: set[str] = set()
    for convolution in graph.convolutions():
        offset = graph.pixel_offset(convolution.source)
        if offset is None:
            continue
        centre = symmetric and offset == 0 and not any(convolution.pads) and convolution.plain
        exact = _pixel_span(-CENTRE if centre else offset, symmetric)
        spans[convolution.source] = exact or spans[convolution.source]
        if centre:
            centred.add(convolution.name)
    per_channel = recipe.per_channel if kind == CPU else recipe.per_channel_trt
    scales: dict[str, Array] = {}
    for convolution in graph.convolutions():
        size = 0.0 if graph.pixel_offset(convolution.source) is not None else step(spans[convolution.source], symmetric)
        scale, steps, bias = round_weights(
            convolution,
            observed.patches.get(convolution.name),
            levels=LEVELS[kind],
            per_channel=per_channel,
            noise=size**2 / 12,
            half=half,
        )
        weights = steps * scale[:, None, None, None] if steps.ndim == 4 else steps * scale[:, None, None]
        if convolution.name in centred:
            bias = bias + CENTRE * weights.reshape(len(weights), -1).sum(axis=1)
            _subtract_centre(graph, convolution)
        graph.replace(convolution.node, 1, weights)
        graph.replace(convolution.node, 2, bias)
        scales[convolution.node.input[1]] = scale
    graph.prune()
    spans = _shared_with_pooling(Graph(proto.graph), spans)
    made = insert_qdq(proto, kind, spans, scales, per_channel)
    del made.metadata_props[:]  # the quantiser adds its own name
    made.metadata_props.extend(observed.proto.metadata_props)
    if half:
        _raise_opset(made)
        made = onnx.load_from_string(to_fp16(made.SerializeToString()))
    onnx.checker.check_model(made, full_check=True)
    check_weights(made, kind)
    content: bytes = made.SerializeToString()
    return content


def _activations(graph: Graph) -> list[str]:
    """Every tensor that may be quantised: what convolutions read, and what leaves them."""
    convolutions = graph.convolutions()
    return sorted({c.source for c in convolutions} | {graph.activation(c) for c in convolutions})


def _bounds(extent: Extent) -> Range:
    return float(extent.low.min()), float(extent.high.max())


def _pixel_span(offset: float, symmetric: bool) -> Range | None:
    """The range in which every pixel value plus an offset is a whole step; None where there is none."""
    if symmetric:  # -128..127 in steps of 1: the scale is 127 / 127
        return (-127.0, 127.0) if offset == -CENTRE else None
    return (offset, offset + PIXEL_MAX) if -PIXEL_MAX <= offset <= 0 and offset.is_integer() else None


def _subtract_centre(graph: Graph, convolution: Convolution) -> None:
    """Puts ``pixels - 128`` before a convolution: int8 then holds a picture without loss."""
    import onnx

    name = f"{convolution.name}.centred"
    constant = onnx.numpy_helper.from_array(np.float32(CENTRE), f"{name}.value")
    graph.proto.initializer.append(constant)
    node = onnx.helper.make_node("Sub", [convolution.source, constant.name], [name], name=name)
    position = next(i for i, other in enumerate(graph.proto.node) if other.name == convolution.name)
    graph.proto.node.insert(position, node)
    graph.proto.node[position + 1].input[0] = name
    convolution.node.input[0] = name


def _raise_opset(proto: Any) -> None:
    """Brings a model from opset 17 to ``HALF_OPSET``, in place: reductions then have their axes as an input."""
    from onnx import numpy_helper

    next(opset for opset in proto.opset_import if not opset.domain).version = HALF_OPSET
    for node in proto.graph.node:
        axes = next((a for a in node.attribute if a.name == "axes"), None)
        if axes is None or not node.op_type.startswith("Reduce"):
            continue
        name = f"{node.name}.axes"
        proto.graph.initializer.append(numpy_helper.from_array(np.array(axes.ints, np.int64), name))
        node.input.append(name)
        node.attribute.remove(axes)


def _shared_with_pooling(graph: Graph, spans: Mapping[str, Range]) -> dict[str, Range]:
    """Gives what is pooled the range of what comes out, so that pooling needs no new rounding; and the converse."""
    complete = dict(spans)
    for node in graph.proto.node:
        if node.op_type == "Sub" and node.output[0].endswith(".centred"):
            complete[node.output[0]] = complete[node.input[0]]
    for node in reversed(graph.proto.node):
        if node.op_type == "MaxPool" and node.output[0] in complete:
            complete[node.input[0]] = complete[node.output[0]]
    for node in graph.proto.node:
        if node.op_type == "MaxPool" and node.input[0] in complete:
            complete.setdefault(node.output[0], complete[node.input[0]])
        if node.op_type == "Relu" and node.output[0] in complete:
            complete.setdefault(node.input[0], complete[node.output[0]])
    return complete
