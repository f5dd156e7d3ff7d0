"""Runs calibration pictures through the float32 graph, batch after batch, and keeps only sums of what goes by.

Memory is that of one batch and of the sums, however many pictures there are.

Which range of values an activation's 8 bits stand for: what lies outside is cut off, what lies inside is rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import ModelError
from fer_deploy.exporting.int8.graph import Array, Convolution, Range
from fer_deploy.system.machine import usable_cores

Images = NDArray[np.uint8]
BATCH: Final = 64
BINS: Final = 2048
PATCHES: Final = 40_000
"""Patches (what one value of a convolution's output is computed from) looked at, per convolution."""
PATCH_VALUES: Final = 5_000
"""In a patch, at most: their covariance takes 200 MB then. 3x3 of 512 channels are 4,608."""
METHODS: Final = ("min-max", "percentile", "entropy", "mse")
_SHARES: Final = np.linspace(0.3, 1, 71)
"""Parts of the full range that ``mse`` and ``entropy`` try."""


@dataclass
class Extent:
    """The values that were seen in one tensor.

    Args:
        low: Smallest value of each channel, shape (C,).
        high: Largest value of each channel, shape (C,).
    """

    low: Array
    high: Array


@dataclass
class Patches:
    """Sums over a convolution's input patches, by group.

    Args:
        mean: Shape (groups, inputs).
        covariance: Shape (groups, inputs, inputs).
    """

    mean: Array
    covariance: Array


def extents(proto: Any, tensors: Sequence[str], images: Images) -> dict[str, Extent]:
    """Finds the extent of each tensor, by channel (axis 1)."""
    found: dict[str, Extent] = {}
    for batch in _batches(proto, tensors, images):
        for name, value in batch.items():
            axes = tuple(axis for axis in range(value.ndim) if axis != 1)
            low, high = value.min(axis=axes).astype(np.float64), value.max(axis=axes).astype(np.float64)
            old = found.get(name)
            found[name] = Extent(np.minimum(low, old.low), np.maximum(high, old.high)) if old else Extent(low, high)
    for name, extent in found.items():
        if not np.isfinite([extent.low, extent.high]).all():
            raise ModelError(f"Calibration found values in {name} that are not finite: INT8 cannot be made of this")
    return found


def histograms(
    proto: Any, bounds: Mapping[str, tuple[float, float]], images: Images
) -> dict[str, tuple[NDArray[np.int64], Array]]:
    """Counts values in equal bins between the bounds of each tensor; values beyond count in the last bin.

    Returns:
        Tensor -> counts, shape (2048,), and edges, shape (2049,).
    """
    edges = {name: np.linspace(low, max(high, low + 1e-9), BINS + 1) for name, (low, high) in bounds.items()}
    counts = {name: np.zeros(BINS, np.int64) for name in bounds}
    for batch in _batches(proto, list(bounds), images):
        for name, value in batch.items():
            low, high = edges[name][0], edges[name][-1]
            places = ((value.ravel() - np.float32(low)) * np.float32(BINS / (high - low))).astype(np.int64)
            counts[name] += np.bincount(np.clip(places, 0, BINS - 1), minlength=BINS)
    return {name: (counts[name], edges[name]) for name in bounds}


def patches(proto: Any, convolutions: Sequence[Convolution], images: Images, seed: int) -> dict[str, Patches]:
    """Sums up a seeded sample of the patches that each plain convolution reads.

    Returns:
        The convolution's name -> mean and covariance; nothing for one that is not plain or has too large patches.
    """
    wanted = [c for c in convolutions if c.plain and c.rows.shape[-1] <= PATCH_VALUES]
    rng = np.random.default_rng(seed)
    sums: dict[str, tuple[int, Array, Array]] = {}
    share = max(1, PATCHES * BATCH // len(images))
    for batch in _batches(proto, sorted({c.source for c in wanted}), images):
        for convolution in wanted:
            rows = _sample(batch[convolution.source], convolution, share, rng)  # (groups, n, inputs)
            count, first, second = sums.get(convolution.name, (0, np.float64(0), np.float64(0)))
            products = np.stack([group.T @ group for group in rows]).astype(np.float64)
            sums[convolution.name] = (
                count + rows.shape[1],
                first + rows.sum(axis=1, dtype=np.float64),
                second + products,
            )
    found = {}
    for name, (count, first, second) in sums.items():
        mean = first / count
        found[name] = Patches(mean, second / count - mean[:, :, None] * mean[:, None, :])
    return found


def _sample(
    value: NDArray[np.float32], convolution: Convolution, share: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Picks patches at random places; returns them by group, shape (groups, n, inputs of one output)."""
    top, left, bottom, right = convolution.pads
    padded = np.pad(value, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, convolution.weights.shape[2:], axis=(2, 3))
    windows = windows[:, :, :: convolution.strides[0], :: convolution.strides[1]]  # (n, c, y, x, height, width)
    n, _, height, width = windows.shape[:4]
    places = rng.choice(n * height * width, min(share, n * height * width), replace=False)
    image, y, x = np.unravel_index(places, (n, height, width))
    taken = windows[image, :, y, x]  # (k, c, height, width)
    groups = convolution.groups
    rows = taken.reshape(len(taken), groups, -1).transpose(1, 0, 2)
    return np.ascontiguousarray(rows)


def _batches(proto: Any, tensors: Sequence[str], images: Images) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yields the values of tensors, batch by batch; nothing where there are no tensors."""
    if not tensors:  # to ONNX Runtime no names mean every output
        return
    import onnx
    import onnxruntime

    opened = onnx.ModelProto()
    opened.CopyFrom(proto)
    present = {value.name for value in opened.graph.output}
    opened.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in tensors
        if name not in present
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = usable_cores()
    session = onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = opened.graph.input[0].name
    for start in range(0, len(images), BATCH):
        values = session.run(list(tensors), {feed: images[start : start + BATCH]})
        yield dict(zip(tensors, values, strict=True))


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
