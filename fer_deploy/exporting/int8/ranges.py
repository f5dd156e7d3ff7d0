"""Which range of values an activation's 8 bits stand for: what lies outside is cut off, what lies inside is rounded."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.exporting.int8.graph import Array

METHODS: Final = ("min-max", "percentile", "entropy", "mse")
Range = tuple[float, float]

_SHARES: Final = np.linspace(0.3, 1, 71)
"""Parts of the full range that ``mse`` and ``entropy`` try."""


def choose_range(counts: NDArray[np.int64], edges: Array, method: str, *, percentile: float, symmetric: bool) -> Range:
    """Chooses a range from a histogram.

    Args:
        counts: Values in each bin.
        edges: The bins' edges, one more than there are counts.
        method: ``min-max``: all that was seen. ``percentile``: all but the rarest on both sides. ``entropy``: the
            range whose rounded histogram tells least from the true one (Kullback and Leibler's divergence; Migacz,
            "8-bit Inference with TensorRT", 2017). ``mse``: the least mean squared error of rounding and cutting.
        percentile: Share of the values to keep, in percent.
        symmetric: Whether the range is to be -x..x in 255 levels; else 256 levels from its one end to the other.

    Returns:
        Low and high, with 0 in between, since padding and ReLU make exact zeros.
    """
    filled = np.flatnonzero(counts)
    if not len(filled):
        return 0.0, 1.0
    low, high = min(0.0, float(edges[filled[0]])), max(0.0, float(edges[filled[-1] + 1]))
    if method == "percentile":
        shares = np.cumsum(counts) / counts.sum()
        outside = (1 - percentile / 100) / 2 if low < 0 else 1 - percentile / 100
        if low < 0:
            low = min(0.0, float(edges[np.searchsorted(shares, outside)]))
        high = max(0.0, float(edges[min(int(np.searchsorted(shares, 1 - outside)) + 1, len(edges) - 1)]))
    elif method in ("mse", "entropy"):
        loss = _squared_error if method == "mse" else _divergence
        losses = [loss(counts, edges, (low * share, high * share), symmetric) for share in _SHARES]
        share = float(_SHARES[int(np.argmin(losses))])
        low, high = low * share, high * share
    if symmetric:
        high = max(-low, high)
        low = -high
    return (low, high) if high > low else (low, low + 1e-6)


def step(span: Range, symmetric: bool) -> float:
    """The difference between two neighbouring levels of a range."""
    low, high = span
    return max(-low, high) / 127 if symmetric else (high - low) / 255


def _rounded(edges: Array, span: Range, symmetric: bool) -> tuple[Array, Array]:
    """The bins' centres, and the values that they become."""
    centres = (edges[1:] + edges[:-1]) / 2
    size = step(span, symmetric) or 1e-12
    low, high = (-max(-span[0], span[1]), max(-span[0], span[1])) if symmetric else span
    return centres, np.clip(np.round(centres / size) * size, low, high)


def _squared_error(counts: NDArray[np.int64], edges: Array, span: Range, symmetric: bool) -> float:
    centres, rounded = _rounded(edges, span, symmetric)
    return float((counts * (centres - rounded) ** 2).sum())


def _divergence(counts: NDArray[np.int64], edges: Array, span: Range, symmetric: bool) -> float:
    """Divergence of the histogram from what is left of it after rounding; zeros, which stay as they are, left out."""
    centres, rounded = _rounded(edges, span, symmetric)
    kept = (counts > 0) & (np.abs(centres) > (edges[1] - edges[0]))
    true = counts[kept].astype(np.float64)
    if not len(true):
        return 0.0
    inside = np.clip(centres[kept], span[0], span[1])
    # what is cut off is counted in the last bin inside, as if it had been there
    places = np.searchsorted(edges, inside, side="right") - 1
    clipped = np.bincount(places, weights=true, minlength=len(counts))[np.flatnonzero(kept)]
    levels, level_of = np.unique(rounded[kept], return_inverse=True)
    sums = np.bincount(level_of, weights=np.where(centres[kept] == inside, true, 0.0), minlength=len(levels))
    sizes = np.bincount(level_of, minlength=len(levels))
    model = (sums / sizes)[level_of]
    p, q = clipped / clipped.sum(), (model + 1e-9) / (model + 1e-9).sum()
    positive = p > 0
    return float((p[positive] * np.log(p[positive] / q[positive])).sum())
