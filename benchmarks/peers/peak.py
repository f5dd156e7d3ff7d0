"""How fast the CPU can multiply at all: large matrix products in OpenVINO; and what one picture costs a network."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from fer_deploy.backends.openvino import shared_core

SHAPES: Final = ((1024, 32, 1, 8), (1024, 16, 1, 8), (2048, 32, 1, 3), (512, 24, 3, 3), (256, 24, 3, 4))
"""Channels, side, kernel and layers of what is tried. The fastest is the peak: which one that is depends on the CPU."""

_KERNELS = {"int8": "_i8", "bf16": "_bf16", "fp32": "_f32"}


def matrix_product(kind: str, channels: int, side: int, kernel: int, layers: int) -> tuple[Any, int]:
    """Compiles products of a matrix with constant ones, one after the other, for throughput.

    They are written as convolutions without padding, since OpenVINO computes those in int8 on every CPU: with a kernel
    of 1x1 just that, a matrix of side^2 x channels; with 3x3 one of nine times as many columns, read from the same
    values.

    Args:
        kind: ``int8`` (uint8 x int8, sums in int32), ``bf16`` or ``fp32``.
        channels: Going in and out of each.
        side: Of the first one's input.
        kernel: Side of the kernel.
        layers: How many products.

    Returns:
        The ``openvino.CompiledModel`` and the operations of one run: a multiplication and an addition are two.

    Raises:
        RuntimeError: The CPU computes it in another type.
    """
    import openvino
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    low, high = np.float32(0), np.float32(2.55)
    image = x = ops.parameter([1, channels, side, side], np.float32)
    shape, operations = (channels, channels, kernel, kernel), 0
    for _ in range(layers):
        if kind == "int8":
            x = ops.fake_quantize(x, low, high, low, high, 256)
            weights = ops.convert(ops.constant(rng.integers(-127, 128, shape, dtype=np.int8)), np.float32)
            weights = ops.multiply(weights, np.full((channels, 1, 1, 1), 0.01, np.float32))
        else:
            weights = ops.constant(rng.standard_normal(shape, dtype=np.float32) / np.float32(channels**0.5 * kernel))
        x = ops.convolution(x, weights, [1, 1], [0, 0], [0, 0], [1, 1])
        side -= kernel - 1
        operations += 2 * side**2 * int(np.prod(shape))
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "bf16" if kind == "bf16" else "f32"}
    compiled = shared_core().compile_model(openvino.Model([x], [image]), "CPU", hints)
    info = [node.rt_info for node in compiled.get_runtime_model().get_ops()]
    kernels = {i["primitiveType"].astype(str) for i in info if i["layerType"].astype(str) == "Convolution"}
    if not kernels or not all(kernel.lower().endswith(_KERNELS[kind]) for kernel in kernels):
        raise RuntimeError(f"OpenVINO has no {kind} kernel here, it takes {', '.join(sorted(kernels))}")
    return compiled, operations


def operations_per_image(model: str) -> int:
    """Counts the multiplications and additions that a float ONNX file takes for one picture, in its large layers.

    Args:
        model: Its path; input (N, 48, 48, 1). Convolutions and matrix products are counted; products with the zeros of
            a padding are not, so that a share of the peak is none too high.
    """
    network = shared_core().read_model(model)
    network.reshape([1, 48, 48, 1])
    total = 0
    for node in network.get_ops():
        if node.get_type_name() == "Convolution":
            channels, before, *_ = node.input(1).get_shape()
            total += 2 * channels * before * _taps(node, 0) * _taps(node, 1)
        elif node.get_type_name() == "MatMul":
            rows = node.input(0).get_shape()[-2 if node.get_attributes().get("transpose_a") else -1]
            total += 2 * int(np.prod(node.output(0).get_shape())) * int(rows)
    return total


def _taps(node: Any, axis: int) -> int:
    """Counts, along one axis, the pairs of an output and an input that a convolution multiplies."""
    options = node.get_attributes()
    stride, begin = options["strides"][axis], options["pads_begin"][axis]
    before, after = node.input(0).get_shape()[2 + axis], node.output(0).get_shape()[2 + axis]
    kernel = node.input(1).get_shape()[2 + axis]
    return sum(0 <= n * stride - begin + k < before for n in range(after) for k in range(kernel))
