"""Rounds weights to whole steps so that the layer's output, not each weight, is kept as well as can be.

Rounding to the nearest makes the smallest error of each weight; but a layer adds hundreds of products whose inputs
go together, and errors there may add up or cancel. Weights are rounded one after the other, and what each loses is
made good by those not yet rounded: Frantar et al., "GPTQ" (2022), after Hassibi and Stork's Optimal Brain Surgeon.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from fer_deploy.exporting.int8.graph import Array, Convolution
from fer_deploy.exporting.int8.observe import Patches

ROUNDINGS: Final = ("nearest", "compensated")
DAMPING: Final = 0.005
"""Share of the mean variance that is added to each: keeps weights of inputs that hardly vary from running away."""
BLOCK: Final = 128


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
