"""Folds linear steps of an ONNX graph into the weights beside them, so that they cost nothing at inference.

tf2onnx folds batch normalisation into convolutions by itself. What it leaves is done here: the scaling of pixels
before the first convolution, and batch normalisation after a dense layer.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
PASSED: Final = ("Cast", "Reshape", "Transpose")
"""What may stand between the pixels and the first convolution without changing a scale or an offset."""
PASSED_BEFORE: Final = ("Resize", "Round")
"""What may stand before the first scaling, whose order with it matters."""


FLATTENS: Final = ("Reshape", "Flatten")
KEEPS_CHANNELS: Final = ("Relu", "Elu", "LeakyRelu", "Selu", "Sigmoid", "Tanh", "MaxPool", "AveragePool")
"""What may stand between the last convolution and the flattening without changing the number of channels."""
DENSE_RANK: Final = 2
IMAGE_RANK: Final = 4
"""Pictures, channels, height and width, in whichever order."""


def fold_pixel_scaling(graph: Any) -> None:
    """Folds ``scale * pixels + offset`` before the first convolution into its weights, in place.

    Without padding both fold: conv(W, s x + o) + b = conv(s W, x) + b + o sum(W). Where the convolution pads, its
    zeros stand for a scaled 0, which the offset must not reach: there only the scale folds, and an addition of
    offset / scale to the pixels stays.

    Args:
        graph: A GraphProto; left as it is where the first steps are other than scalar arithmetic and a convolution.
    """
    users, constants = _users(graph), _constants(graph)
    scale, offset = np.float64(1), np.float64(0)
    steps: list[Any] = []
    tensor = graph.input[0].name
    while len(users.get(tensor, ())) == 1:
        node = users[tensor][0]
        affine = _scalar_affine(node, tensor, constants)
        if affine is not None:
            steps.append(node)
            scale, offset = scale * affine[0], offset * affine[0] + affine[1]
        elif node.op_type not in (PASSED if steps else (*PASSED, *PASSED_BEFORE)):
            break
        tensor = node.output[0]
    else:
        return
    if node.op_type != "Conv" or node.input[1] not in constants or not steps or scale == 0:
        return
    weights = constants[node.input[1]].astype(np.float64)  # (out, in, height, width)
    padded = any(any(a.ints) or a.s not in (b"", b"NOTSET", b"VALID") for a in node.attribute if "pad" in a.name)
    _replace_input(graph, node, 1, weights * scale)
    if padded and offset != 0:
        _keep_addition(graph, steps.pop(0), offset / scale)
    elif offset != 0:
        bias = constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(weights))
        _replace_input(graph, node, 2, bias + offset * weights.sum(axis=(1, 2, 3)))
    for step in steps:
        _bypass(graph, step)


def fold_channel_repeat(graph: Any) -> None:
    """Folds a gray picture's repetition over the channels before a convolution into its weights, in place.

    conv(W, [x, x, x]) = conv(sum of W over its input channels, x): a third of the operations, and no copies.
    """
    users, constants = _users(graph), _constants(graph)
    for repeat in [node for node in graph.node if node.op_type == "Concat" and len(set(node.input)) == 1]:
        following = users.get(repeat.output[0], ())
        axis = next(a.i for a in repeat.attribute if a.name == "axis") % IMAGE_RANK
        if len(following) == 1 and following[0].op_type == "Transpose":
            axis = list(next(a.ints for a in following[0].attribute if a.name == "perm")).index(axis)
            following = users.get(following[0].output[0], ())
        if len(following) != 1 or following[0].op_type != "Conv" or axis != 1 or following[0].input[1] not in constants:
            continue
        weights = constants[following[0].input[1]].astype(np.float64)  # (out, in, height, width)
        grouped = any(a.name == "group" and a.i != 1 for a in following[0].attribute)
        if not grouped and weights.shape[1] == len(repeat.input):  # else what is repeated has channels of its own
            _replace_input(graph, following[0], 1, weights.sum(axis=1, keepdims=True))
            _bypass(graph, repeat)


def fold_dense_scaling(graph: Any) -> None:
    """Folds a multiplication per unit after a dense layer into its weights, in place.

    It is the first half of batch normalisation; the second half is an addition, which becomes the layer's bias.
    """
    users, constants = _users(graph), _constants(graph)
    for node in [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in constants]:
        scaling = _only_user(node, users)
        if scaling is None or scaling.op_type != "Mul" or scaling.output[0] not in users:
            continue
        factors = [constants[name] for name in scaling.input if name in constants]
        weights = constants[node.input[1]]  # (in, out)
        if len(factors) == 1 and factors[0].shape in ((), (1,), weights.shape[-1:]):
            _replace_input(graph, node, 1, weights.astype(np.float64) * factors[0])
            _bypass(graph, scaling)


def fold_flatten_order(graph: Any) -> None:
    """Folds the transposition before a flattened feature map into the dense layer's weights, in place.

    Keras flattens (height, width, channels), ONNX has (channels, height, width): with the rows of the weights in that
    order nothing needs to be moved.

    Args:
        graph: A GraphProto after constant folding; left as it is where the feature map does not come from a convolution
            or the transposed values have another use.
    """
    users, constants = _users(graph), _constants(graph)
    makers = {name: node for node in graph.node for name in node.output}
    for transpose in [node for node in graph.node if node.op_type == "Transpose"]:
        flatten = _only_user(transpose, users)
        dense = _only_user(flatten, users) if flatten is not None else None
        if list(transpose.attribute[0].ints) != [0, 2, 3, 1] or flatten is None or dense is None:
            continue
        channels = _channels(transpose.input[0], makers, constants)
        if flatten.op_type not in FLATTENS or dense.op_type != "MatMul" or dense.input[1] not in constants:
            continue
        weights = constants[dense.input[1]]  # (height * width * channels, out)
        if not channels or weights.ndim != DENSE_RANK or len(weights) % channels:
            continue
        by_channel = weights.reshape(-1, channels, weights.shape[1]).transpose(1, 0, 2)
        _replace_input(graph, dense, 1, by_channel.reshape(weights.shape))
        _bypass(graph, transpose)
    _drop_unused(graph)


def _drop_unused(graph: Any) -> None:
    """Removes constants that nothing reads any more."""
    users = _users(graph)
    kept = [tensor for tensor in graph.initializer if tensor.name in users]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _only_user(node: Any, users: dict[str, list[Any]]) -> Any | None:
    found = users.get(node.output[0], [])
    return found[0] if len(found) == 1 else None


def _channels(tensor: str, makers: dict[str, Any], constants: dict[str, Float]) -> int:
    """Returns the channels of a feature map, from the convolution that it comes from; 0 where it is unknown."""
    while (node := makers.get(tensor)) is not None and node.op_type in KEEPS_CHANNELS:
        tensor = node.input[0]
    if node is None or node.op_type != "Conv" or node.input[1] not in constants:
        return 0
    return int(constants[node.input[1]].shape[0])


def _scalar_affine(node: Any, tensor: str, constants: dict[str, Float]) -> tuple[float, float] | None:
    """Returns (scale, offset) of a node that is ``scale * tensor + offset`` with scalars, else None."""
    if node.op_type not in ("Mul", "Div", "Add", "Sub"):
        return None
    other = next((name for name in node.input if name != tensor), "")
    value = constants.get(other)
    if value is None or value.size != 1 or (node.op_type in ("Div", "Sub") and node.input[0] != tensor):
        return None
    x = float(value.reshape(()))
    if node.op_type == "Div":
        return 1 / x, 0.0
    return {"Mul": (x, 0.0), "Add": (1.0, x), "Sub": (1.0, -x)}[node.op_type]


def _keep_addition(graph: Any, node: Any, value: float) -> None:
    """Makes a node add a scalar to its non-constant input."""
    constants = _constants(graph)
    kept = next(name for name in node.input if name not in constants)
    del node.input[:]
    node.op_type = "Add"
    node.input.append(kept)
    _replace_input(graph, node, 1, np.float32(value))


def _replace_input(graph: Any, node: Any, index: int, value: Any) -> None:
    """Gives a node a constant of its own: the old one may be shared with other nodes."""
    from onnx import numpy_helper

    taken = {tensor.name for tensor in graph.initializer}
    name = f"{node.name}/folded_{index}"
    while name in taken:  # by what was folded into it before
        name += "_again"
    graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype=np.float32), name))
    if index < len(node.input):
        node.input[index] = name
    else:
        node.input.append(name)


def _bypass(graph: Any, node: Any) -> None:
    """Takes a node out of the graph; what read its output reads its non-constant input."""
    constants = _constants(graph)
    source = next(name for name in node.input if name not in constants)
    for user in graph.node:
        for index, name in enumerate(user.input):
            if name == node.output[0]:
                user.input[index] = source
    graph.node.remove(node)


def _users(graph: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _constants(graph: Any) -> dict[str, Float]:
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
