"""Equalisation: moves factors per channel from one convolution to the next, which changes nothing in float32.

One scale holds for all channels of an activation. Where one channel reaches 25 and another 1, the second has a few
steps left of 255. Each channel is therefore divided by a factor in the convolution that makes it, and multiplied by
it in the one that reads it: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
(2019), here with the measured range of each channel in place of the weights' range, weighed as Xiao et al. do in
"SmoothQuant" (2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from fer_deploy.exporting.int8.graph import EQUAL_UNDER_SCALING, Array, Convolution, Graph

LIMIT: Final = 100.0
"""Largest factor, and its inverse the smallest: channels that are hardly ever active would ask for any."""


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
    node = graph.follower(first.node.output[0])
    while node is not None and node.op_type in EQUAL_UNDER_SCALING:
        node = graph.follower(node.output[0])
    second = known.get(node.name) if node is not None and node.op_type == "Conv" else None
    fits = second is not None and first.plain and second.plain and second.groups == 1
    return second if second is not None and fits and second.weights.shape[1] == len(first.weights) else None
