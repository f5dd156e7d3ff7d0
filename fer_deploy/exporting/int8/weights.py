"""Equalisation: moves factors per channel from one convolution to the next, which changes nothing in float32.

One scale holds for all channels of an activation. Where one channel reaches 25 and another 1, the second has a few
steps left of 255. Each channel is therefore divided by a factor in the convolution that makes it, and multiplied by
it in the one that reads it: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
(2019), here with the measured range of each channel in place of the weights' range, weighed as Xiao et al. do in
"SmoothQuant" (2022).

Rounds weights to whole steps so that the layer's output, not each weight, is kept as well as can be.

Rounding to the nearest makes the smallest error of each weight; but a layer adds hundreds of products whose inputs
go together, and errors there may add up or cancel. Weights are rounded one after the other, and what each loses is
made good by those not yet rounded: Frantar et al., "GPTQ" (2022), after Hassibi and Stork's Optimal Brain Surgeon.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from fer_deploy.exporting.int8.graph import EQUAL_UNDER_SCALING, Array, Convolution, Graph
from fer_deploy.exporting.int8.observe import Patches

LIMIT: Final = 100.0
"""Largest factor, and its inverse the smallest: channels that are hardly ever active would ask for any."""
ROUNDINGS: Final = ("nearest", "compensated")
DAMPING: Final = 0.005
"""Share of the mean variance that is added to each: keeps weights of inputs that hardly vary from running away."""
BLOCK: Final = 128


def equalise(graph: Graph, largest: Mapping[str, Array], strength: float) -> int:
    """Equalises every pair of convolutions that a factor can pass between, in place.

    Args:
        graph: The float32 graph.
        largest: Tensor that a convolution reads -> largest absolute value of each of its channels.
        strength: From 0 to 1; the factor of a channel is largest ** strength / weights ** (1 - strength), with the
            largest weight that reads it: 1 makes all channels alike, 0.5 shares the burden with the weights.

    Returns:
        The number of pairs.
    """
    pairs = 0
    names = [convolution.name for convolution in graph.convolutions()]
    for name in names:
        now = {convolution.name: convolution for convolution in graph.convolutions()}
        second = _next(graph, now[name], now)
        if second is None:
            continue
        reach = np.abs(second.weights).max(axis=(0, 2, 3))  # (in,)
        factor = _factors(largest[second.source], reach, strength)
        graph.replace(now[name].node, 1, now[name].weights / factor[:, None, None, None])
        graph.replace(now[name].node, 2, now[name].bias / factor)
        graph.replace(second.node, 1, second.weights * factor[None, :, None, None])
        pairs += 1
    return pairs


def _factors(largest: Array, reach: Array, strength: float) -> Array:
    tiny = 1e-6 * max(float(largest.max()), 1e-30), 1e-6 * max(float(reach.max()), 1e-30)
    logarithm = strength * np.log(np.maximum(largest, tiny[0])) - (1 - strength) * np.log(np.maximum(reach, tiny[1]))
    factors: Array = np.clip(np.exp(logarithm - logarithm.mean()), 1 / LIMIT, LIMIT)
    return factors


def _next(graph: Graph, first: Convolution, known: Mapping[str, Convolution]) -> Convolution | None:
    """The convolution that alone reads the first one's channels, with nothing between that a factor cannot pass."""
    node = graph.tracker(first.node.output[0])
    while node is not None and node.op_type in EQUAL_UNDER_SCALING:
        node = graph.tracker(node.output[0])
    second = known.get(node.name) if node is not None and node.op_type == "Conv" else None
    fits = second is not None and first.plain and second.plain and second.groups == 1
    return second if second is not None and fits and second.weights.shape[1] == len(first.weights) else None


def round_weights(
    convolution: Convolution, seen: Patches | None, *, levels: int, per_channel: bool, noise: float, half: bool = False
) -> tuple[Array, Array, Array]:
    """Rounds a convolution's weights, and puts right in its bias what that changes on average.

    Args:
        convolution: With its float weights.
        seen: Sums over its input patches; None for plain rounding to the nearest.
        levels: The largest step, 64 or 127: steps are from -levels to levels.
        per_channel: Whether each output has a scale of its own, or all have one.
        noise: Variance that quantising the input adds to each of its values.
        half: Whether scales are stored in fp16.

    Returns:
        Scales, shape (out,), all equal where not per channel; steps, whole numbers in the weights' shape; the bias.
    """
    largest = np.abs(convolution.weights).reshape(len(convolution.weights), -1).max(axis=1)
    scales = np.maximum(largest if per_channel else np.full_like(largest, largest.max()), 1e-12) / levels
    # as they are stored: the steps must be of the very scales that a runtime multiplies with; and none of them 0
    stored = np.finfo(np.float16 if half else np.float32)
    scales = np.maximum(scales, float(stored.smallest_normal)).astype(stored.dtype).astype(np.float64)
    by_group = scales.reshape(convolution.groups, -1, 1)
    rows = convolution.rows
    if seen is None:
        steps = np.clip(np.round(rows / by_group), -levels, levels)
        return scales, steps.reshape(convolution.weights.shape), convolution.bias
    steps = np.stack(
        [
            _compensated(rows[group], seen.covariance[group], by_group[group], levels, noise)
            for group in range(convolution.groups)
        ]
    )
    lost = np.einsum("goi,gi->go", rows - steps * by_group, seen.mean).ravel()
    return scales, steps.reshape(convolution.weights.shape), convolution.bias + lost


def _compensated(weights: Array, covariance: Array, scales: Array, levels: int, noise: float) -> Array:
    """Rounds the rows of a matrix; returns steps.

    Args:
        weights: Shape (out, in).
        covariance: Of the inputs, shape (in, in).
        scales: Shape (out, 1).
        levels: The largest step.
        noise: Added to each input's variance.
    """
    n = weights.shape[1]
    variance = np.diag(covariance)
    order = np.argsort(-variance, kind="stable")  # those that matter most first, while many are left to make it good
    weights = weights[:, order].copy()
    damped = covariance[np.ix_(order, order)] + np.eye(n) * (noise + DAMPING * variance.mean() + 1e-12)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    steps = np.zeros_like(weights)
    for start in range(0, n, BLOCK):
        end = min(start + BLOCK, n)
        errors = np.zeros((len(weights), end - start))
        for i in range(start, end):
            steps[:, i] = np.clip(np.round(weights[:, i] / scales[:, 0]), -levels, levels)
            error = (weights[:, i] - steps[:, i] * scales[:, 0]) / upper[i, i]
            weights[:, i:end] -= np.outer(error, upper[i, i:end])
            errors[:, i - start] = error
        weights[:, end:] -= errors @ upper[start:end, end:]
    back = np.empty_like(steps)
    back[:, order] = steps
    return back
