"""How fast the CPU can multiply at all: a large matrix product in OpenVINO; and what one picture costs a network."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZE = 2048


def matrix_product(kind: str, size: int = SIZE) -> tuple[Any, int]:
    """Compiles the product of a matrix with a constant one, for throughput.

    Args:
        kind: ``int8`` (uint8 x int8, sums in int32), ``bf16`` or ``fp32``.
        size: Rows and columns of both.

    Returns:
        The ``openvino.CompiledModel`` and the operations of one run: a multiplication and an addition are two.

    Raises:
        RuntimeError: The CPU computes it in another type.
    """
    import openvino
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    if kind == "int8":
        image = ops.parameter([size, size], np.uint8)
        left = ops.multiply(ops.convert(image, np.float32), np.float32(0.01))
        weights = ops.constant(rng.integers(-127, 128, (size, size), dtype=np.int8))
        right = ops.multiply(ops.convert(weights, np.float32), np.full((size, 1), 0.01, np.float32))
    else:
        image = left = ops.parameter([size, size], np.float32)
        right = ops.constant(rng.standard_normal((size, size), dtype=np.float32))
    product = ops.matmul(left, right, False, True)
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "bf16" if kind == "bf16" else "f32"}
    compiled = openvino.Core().compile_model(openvino.Model([product], [image]), "CPU", hints)
    expected = {"int8": {"u8", "i8"}, "bf16": {"bf16"}, "fp32": {"f32"}}[kind]
    info = [node.rt_info for node in compiled.get_runtime_model().get_ops()]
    found = {
        i["runtimePrecision"].astype(str) for i in info if i["layerType"].astype(str) in ("FullyConnected", "MatMul")
    }
    if not found or not found <= expected:
        raise RuntimeError(f"OpenVINO computes a {kind} matrix product in {', '.join(sorted(found)) or 'nothing'} here")
    return compiled, 2 * size**3


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
