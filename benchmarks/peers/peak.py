"""How fast the CPU can multiply at all: a large matrix product in OpenVINO; and what one picture costs a network."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZE, LAYERS = 1024, 8  # weights that stay in the caches
_KERNELS = {"int8": "_i8", "bf16": "_bf16", "fp32": "_f32"}


def matrix_product(kind: str, size: int = SIZE, layers: int = LAYERS) -> tuple[Any, int]:
    """Compiles products of a matrix with constant ones, one after the other, for throughput.

    They are written as convolutions of 1x1, which are just that, since OpenVINO computes those in int8 on every CPU.

    Args:
        kind: ``int8`` (uint8 x int8, sums in int32), ``bf16`` or ``fp32``.
        size: Rows and columns of all.
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
    image = x = ops.parameter([1, size, 32, size // 32], np.float32)
    for _ in range(layers):
        if kind == "int8":
            x = ops.fake_quantize(x, low, high, low, high, 256)
            weights = ops.convert(ops.constant(rng.integers(-127, 128, (size, size, 1, 1), dtype=np.int8)), np.float32)
            weights = ops.multiply(weights, np.full((size, 1, 1, 1), 0.01, np.float32))
        else:
            weights = ops.constant(rng.standard_normal((size, size, 1, 1), dtype=np.float32) / np.float32(size**0.5))
        x = ops.convolution(x, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "bf16" if kind == "bf16" else "f32"}
    compiled = openvino.Core().compile_model(openvino.Model([x], [image]), "CPU", hints)
    info = [node.rt_info for node in compiled.get_runtime_model().get_ops()]
    kernels = {i["primitiveType"].astype(str) for i in info if i["layerType"].astype(str) == "Convolution"}
    if not kernels or not all(kernel.lower().endswith(_KERNELS[kind]) for kernel in kernels):
        raise RuntimeError(f"OpenVINO has no {kind} kernel here, it takes {', '.join(sorted(kernels))}")
    return compiled, 2 * layers * size**3


def operations_per_image(model: str) -> int:
    """Counts the multiplications and additions that a float ONNX file takes for one picture, in its large layers.

    Args:
        model: Its path; input (N, 48, 48, 1). Convolutions and matrix products are counted.
    """
    import openvino

    network = openvino.Core().read_model(model)
    network.reshape([1, 48, 48, 1])
    total = 0
    for node in network.get_ops():
        if node.get_type_name() == "Convolution":
            _, *kernel = node.input(1).get_shape()
            total += 2 * int(np.prod(node.output(0).get_shape())) * int(np.prod(kernel))
        elif node.get_type_name() == "MatMul":
            rows = node.input(0).get_shape()[-2 if node.get_attributes().get("transpose_a") else -1]
            total += 2 * int(np.prod(node.output(0).get_shape())) * int(rows)
    return total
