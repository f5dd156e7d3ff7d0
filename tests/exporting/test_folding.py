"""Folding changes what a graph costs, never what it computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fer_deploy.exporting.folding import (
    fold_channel_repeat,
    fold_dense_scaling,
    fold_flatten_order,
    fold_pixel_scaling,
)

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fer-deploy[export]'")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

RNG = np.random.default_rng(7)
IMAGES = RNG.integers(0, 256, (2, 1, 6, 6), dtype=np.uint8)
KERNEL = RNG.normal(size=(3, 1, 3, 3)).astype(np.float32)
BIAS = RNG.normal(size=3).astype(np.float32)
TO_64THS = [("Mul", 1 / 64), ("Add", -2.0)]


def convolution(steps: list[tuple[str, Any]], bias: bool = False, swap: bool = False, **attributes: Any) -> Any:
    """Makes the graph image -> Cast -> steps -> Conv, with constants on the left side where ``swap``."""
    nodes = [helper.make_node("Cast", ["image"], ["t0"], name="cast", to=TensorProto.FLOAT)]
    constants = {"kernel": KERNEL, **({"bias": BIAS} if bias else {})}
    for n, (kind, value) in enumerate(steps):
        constants[f"c{n}"] = np.asarray(value, dtype=np.float32)
        inputs = [f"c{n}", f"t{n}"] if swap else [f"t{n}", f"c{n}"]
        nodes.append(helper.make_node(kind, inputs, [f"t{n + 1}"], name=f"step{n}"))
    inputs = [f"t{len(steps)}", *constants.keys() & {"kernel"}, *constants.keys() & {"bias"}]
    nodes.append(helper.make_node("Conv", inputs, ["out"], name="conv", kernel_shape=[3, 3], **attributes))
    return make_model(nodes, constants, TensorProto.UINT8, ["N", 1, 6, 6])


def make_model(nodes: list[Any], constants: dict[str, Any], kind: int, shape: list[Any]) -> Any:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [None] * len(shape))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def run(model: Any, image: Any) -> Any:
    return ReferenceEvaluator(model).run(None, {"image": image})[0]


def kinds(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("steps", "options", "left"),
    [
        (TO_64THS, {}, []),
        (TO_64THS, {"swap": True}, []),
        (TO_64THS, {"pads": [0, 0, 0, 0]}, []),
        (TO_64THS, {"pads": [1, 1, 1, 1]}, ["Add"]),
        (TO_64THS, {"pads": [0, 0, 1, 1], "strides": [2, 2]}, ["Add"]),
        (TO_64THS, {"auto_pad": "SAME_UPPER"}, ["Add"]),
        (TO_64THS, {"auto_pad": "VALID"}, []),
        ([("Mul", 1 / 255)], {"pads": [1, 1, 1, 1]}, []),
        ([("Sub", 127.5), ("Div", 127.5)], {}, []),
        ([("Sub", 127.5), ("Div", 127.5)], {"pads": [1, 1, 1, 1]}, ["Add"]),
        ([("Mul", [1 / 64]), ("Add", 1.0), ("Mul", 0.5), ("Sub", 1.0)], {"pads": [1, 1, 1, 1]}, ["Add"]),
    ],
)
def test_pixel_scaling_folds(steps: list[tuple[str, Any]], options: Any, left: list[str], bias: bool) -> None:
    model = convolution(steps, bias, **options)
    before = run(model, IMAGES)
    fold_pixel_scaling(model.graph)
    onnx.checker.check_model(model)
    assert kinds(model) == ["Cast", *left, "Conv"]
    np.testing.assert_allclose(run(model, IMAGES), before, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("steps", "options"),
    [
        ([], {}),
        ([("Mul", 0.0)], {}),
        ([("Mul", np.full((1, 1, 6, 6), 0.1))], {}),
        ([("Sub", 255.0)], {"swap": True}),
        ([("Pow", 2.0)], {}),
    ],
)
def test_what_is_no_scaling_is_left(steps: list[tuple[str, Any]], options: Any) -> None:
    model = convolution(steps, **options)
    before = model.SerializeToString()
    fold_pixel_scaling(model.graph)
    assert model.SerializeToString() == before


def test_pixels_with_a_second_reader_are_left() -> None:
    model = convolution(TO_64THS)
    model.graph.node.append(helper.make_node("ReduceMax", ["t2"], ["brightest"]))
    before = model.SerializeToString()
    fold_pixel_scaling(model.graph)
    assert model.SerializeToString() == before


def test_shared_weights_are_not_changed() -> None:
    model = convolution(TO_64THS, pads=[1, 1, 1, 1])
    fold_pixel_scaling(model.graph)
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    np.testing.assert_array_equal(kept["kernel"], KERNEL)


@pytest.mark.parametrize(("factor", "folds"), [((4,), True), ((), True), ((2, 4), False)])
def test_dense_scaling_folds(factor: tuple[int, ...], folds: bool) -> None:
    constants = {
        "weights": RNG.normal(size=(5, 4)).astype(np.float32),
        "factor": np.asarray(RNG.normal(size=factor), dtype=np.float32),
        "shift": RNG.normal(size=4).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["image", "weights"], ["t0"], name="dense"),
        helper.make_node("Mul", ["t0", "factor"], ["t1"], name="scale"),
        helper.make_node("Add", ["t1", "shift"], ["out"], name="shift"),
    ]
    model = make_model(nodes, constants, TensorProto.FLOAT, ["N", 5])
    rows = RNG.normal(size=(2, 5)).astype(np.float32)
    before = run(model, rows)
    fold_dense_scaling(model.graph)
    assert kinds(model) == (["MatMul", "Add"] if folds else ["MatMul", "Mul", "Add"])
    np.testing.assert_allclose(run(model, rows), before, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("perm", "read_again", "folds"),
    [
        ([0, 2, 3, 1], False, True),
        ([0, 3, 1, 2], False, False),  # another order than Keras's
        ([0, 2, 3, 1], True, False),  # something else reads the transposed values, too
    ],
)
def test_the_order_of_a_flattened_feature_map_folds(perm: list[int], read_again: bool, folds: bool) -> None:
    constants = {
        "kernel": KERNEL,
        "weights": RNG.normal(size=(48, 5)).astype(np.float32),
        "shape": np.array([-1, 48], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["map"], name="conv", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["map"], ["active"], name="relu"),
        helper.make_node("Transpose", ["active"], ["last"], name="transpose", perm=perm),
        helper.make_node("Reshape", ["last", "shape"], ["flat"], name="reshape"),
        helper.make_node("MatMul", ["flat", "weights"], ["out"], name="dense"),
    ]
    if read_again:
        nodes.append(helper.make_node("Relu", ["last"], ["unused"], name="reads_it"))
    model = make_model(nodes, constants, TensorProto.FLOAT, ["N", 1, 6, 6])
    images = IMAGES.astype(np.float32) / 64
    before = run(model, images)
    fold_flatten_order(model.graph)
    assert ("Transpose" not in kinds(model)) is folds
    np.testing.assert_allclose(run(model, images), before, rtol=0, atol=1e-4)


def test_rounding_before_the_scaling_is_passed_and_after_it_is_not() -> None:
    before_it = convolution([("Add", 0.25), *TO_64THS])
    round_it(before_it.graph, 1)
    expected = run(before_it, IMAGES)
    fold_pixel_scaling(before_it.graph)
    assert kinds(before_it) == ["Cast", "Round", "Conv"]
    np.testing.assert_allclose(run(before_it, IMAGES), expected, rtol=0, atol=2e-5)
    after_it = convolution([*TO_64THS, ("Add", 0.25)])
    round_it(after_it.graph, 3)
    unchanged = after_it.SerializeToString()
    fold_pixel_scaling(after_it.graph)
    assert after_it.SerializeToString() == unchanged


def round_it(graph: Any, index: int) -> None:
    """Puts a rounding in the place of one step."""
    step = graph.node[index]
    graph.node.insert(index, helper.make_node("Round", [step.input[0]], [step.output[0]], name="round"))
    graph.node.remove(step)


@pytest.mark.parametrize(
    ("axis", "perm", "copies", "group", "folds"),
    [
        (1, None, 3, 1, True),
        (3, [0, 3, 1, 2], 3, 1, True),
        (-1, [0, 3, 1, 2], 3, 1, True),
        (1, None, 3, 3, False),
        (2, None, 3, 1, False),
        (1, None, 1, 1, False),
    ],
)
def test_repeated_channel_folds(axis: int, perm: list[int] | None, copies: int, group: int, folds: bool) -> None:
    channels = 1 if axis == 2 else 3
    shape = [1, 6, 6] if perm is None else [6, 6, 1]
    if copies == 1:
        shape = [3, 6, 6]
    kernel = RNG.normal(size=(3, channels // group, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Concat", ["image"] * copies, ["t0"], name="repeat", axis=axis)]
    if perm is not None:
        nodes.append(helper.make_node("Transpose", ["t0"], ["t1"], name="transpose", perm=perm))
    nodes.append(helper.make_node("Conv", [nodes[-1].output[0], "kernel"], ["out"], name="conv", group=group))
    model = make_model(nodes, {"kernel": kernel}, TensorProto.FLOAT, ["N", *shape])
    images = RNG.normal(size=(2, *shape)).astype(np.float32)
    before = run(model, images)
    fold_channel_repeat(model.graph)
    onnx.checker.check_model(model)
    assert ("Concat" not in kinds(model)) == folds
    np.testing.assert_allclose(run(model, images), before, rtol=0, atol=1e-5)


def test_repeated_channel_and_scaling_both_fold() -> None:
    model = convolution(TO_64THS)
    nodes, kernel = model.graph.node, RNG.normal(size=(3, 3, 3, 3)).astype(np.float32)
    nodes.insert(3, helper.make_node("Concat", ["t2"] * 3, ["repeated"], name="repeat", axis=1))
    nodes[-1].input[0] = "repeated"
    next(t for t in model.graph.initializer if t.name == "kernel").CopyFrom(numpy_helper.from_array(kernel, "kernel"))
    before = run(model, IMAGES)
    fold_channel_repeat(model.graph)
    fold_pixel_scaling(model.graph)
    assert kinds(model) == ["Cast", "Conv"]
    names = [tensor.name for tensor in model.graph.initializer]
    assert len(set(names)) == len(names)
    np.testing.assert_allclose(run(model, IMAGES), before, rtol=0, atol=2e-5)
