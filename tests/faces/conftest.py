"""A small network that finds what is red."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

STRIDE = 4


@pytest.fixture(scope="session")
def bright_spots() -> Callable[..., bytes]:
    """Returns a function that builds a network with CenterFace's outputs, which takes what is red for faces.

    Its score is the mean red of 4x4 pixels; every face is 24 high and 16 wide, moved by ``offset`` parts of 4 pixels,
    its landmarks at a quarter and a half of the box.
    """
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper

    def build(offset: tuple[float, float] = (0.0, 0.0), outputs: int = 4, batch: int = 10) -> bytes:
        kernel = np.zeros((1, 3, STRIDE, STRIDE), np.float32)
        kernel[0, 0] = 1 / (255 * STRIDE**2)
        sizes = np.log(np.array([24, 16], np.float32) / STRIDE)
        constants = {"sizes": sizes, "offsets": np.array(offset, np.float32), "marks": np.tile([0.25, 0.5], 5)}
        nodes = [helper.make_node("Conv", ["image", "kernel"], ["scores"], strides=[STRIDE, STRIDE])]
        nodes.append(helper.make_node("Sub", ["scores", "scores"], ["nothing"]))
        tensors = [onnx.numpy_helper.from_array(kernel, "kernel")]
        for name, values in constants.items():
            tensors.append(onnx.numpy_helper.from_array(values.astype(np.float32).reshape(1, -1, 1, 1), name))
            nodes.append(helper.make_node("Add", ["nothing", name], [f"{name}_out"]))
        names = ("scores", "sizes_out", "offsets_out", "marks_out")[:outputs]
        channels = (1, 2, 2, 10)
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes,
            "bright_spots",
            [info("image", 1, [batch, 3, 32, 32])],
            [info(name, 1, [batch, n, 8, 8]) for name, n in zip(names, channels, strict=False)],
            tensors,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        content: bytes = model.SerializeToString()
        return content

    return build
