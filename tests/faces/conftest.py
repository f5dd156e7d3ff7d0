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


@pytest.fixture(scope="session")
def yellow_grids() -> Callable[..., bytes]:
    """Returns a function that builds a network with YuNet's outputs, which takes what is yellow for faces.

    On each of its three grids a place's score is the mean red, its objectness the mean green; every face is 24 high and
    16 wide, its middle at 0.25 and 0.5 of the place, its landmarks 0, 1, 2, 3, 4 places right of it and one below it.
    """
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper

    def build(strides: tuple[int, ...] = (8, 16, 32), alive: int | None = None, names: tuple[str, ...] = ()) -> bytes:
        """Makes it with these grids, of which only ``alive`` scores, and its last outputs named differently."""
        nodes, tensors, outputs = [], [], []
        for stride, usual in zip(strides, (8, 16, 32), strict=True):
            sizes = np.log(np.array([16, 24], np.float32) / stride)
            marks = np.stack([np.arange(5), np.ones(5)], axis=-1).ravel()
            constants = {"bbox": np.concatenate([[0.25, 0.5], sizes]), "kps": marks}
            for value, channel in {"cls": 2, "obj": 1}.items():  # blue comes first
                kernel = np.zeros((1, 3, stride, stride), np.float32)
                kernel[0, channel] = (alive in (None, usual)) / (255 * stride**2)
                name = f"{value}_{usual}"
                tensors.append(numpy_helper.from_array(kernel, f"{name} kernel"))
                nodes += [
                    helper.make_node("Conv", ["input", f"{name} kernel"], [f"{name} map"], strides=[stride] * 2),
                    helper.make_node("Transpose", [f"{name} map"], [f"{name} last"], perm=[0, 2, 3, 1]),
                    helper.make_node("Reshape", [f"{name} last", "row of 1"], [name]),
                ]
            nodes.append(helper.make_node("Sub", [f"cls_{usual} last"] * 2, [f"nothing {usual}"]))
            for value, numbers in constants.items():
                name = f"{value}_{usual}"
                tensors.append(numpy_helper.from_array(numbers.astype(np.float32), f"{name} numbers"))
                nodes += [
                    helper.make_node("Add", [f"nothing {usual}", f"{name} numbers"], [f"{name} map"]),
                    helper.make_node("Reshape", [f"{name} map", f"row of {len(numbers)}"], [name]),
                ]
        for size in (1, 4, 10):
            tensors.append(numpy_helper.from_array(np.array([1, -1, size]), f"row of {size}"))
        for value, size in {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}.items():
            outputs += [helper.make_tensor_value_info(f"{value}_{s}", 1, [1, "places", size]) for s in (8, 16, 32)]
        for output, name in zip(outputs[len(outputs) - len(names) :], names, strict=True):
            nodes.append(helper.make_node("Identity", [output.name], [name]))
            output.name = name
        image = helper.make_tensor_value_info("input", 1, [1, 3, "height", "width"])
        graph = helper.make_graph(nodes, "yellow_grids", [image], outputs, tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        content: bytes = model.SerializeToString()
        return content

    return build
