"""Whether probabilities mean what they say: expected calibration error, and the temperature that mends it.

Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import UsageError
from fer_deploy.system.figures import new_figure

BINS: Final = 15
TEMPERATURES: Final = (0.05, 20.0)
"""Where a temperature is looked for; beyond, the probabilities have nothing to do with the labels, or are all right."""
_HALVINGS: Final = 60
_TINY: Final = 1e-30
"""Stands in for a probability of 0, whose logarithm would be infinite; below all that a float32 softmax gives."""


@dataclass(frozen=True)
class Bin:
    """Pictures of about the same confidence; means are 0 where there are none."""

    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """How well the confidence of answers fits their accuracy.

    Args:
        n: Pictures.
        ece: Expected calibration error, a fraction.
        nll: Mean negative logarithm of the true class's probability (natural logarithm).
        confidence: Mean of the largest probabilities.
        accuracy: Share of right top-1 answers.
        bins: From unsure to sure.
    """

    n: int
    ece: float
    nll: float
    confidence: float
    accuracy: float
    bins: tuple[Bin, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def reliability(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.uint8], bins: int = BINS) -> Reliability:
    """Compares confidence with accuracy.

    The expected calibration error puts each picture into one of ``bins`` equal parts of 0 to 1 by its largest
    probability p, the k-th holding ``(k - 1) / bins < p <= k / bins``. It is the mean over all pictures of the distance
    between their bin's mean p and their bin's share of right answers.

    Args:
        probabilities: Shape (N, 7), N >= 1, rows sum to 1.
        labels: Shape (N,), 0..6.
        bins: How many.
    """
    exact = probabilities.astype(np.float64)
    sure, right = exact.max(axis=1), exact.argmax(axis=1) == labels
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    least = np.maximum(counts, 1)
    confidence = np.bincount(place, sure, bins) / least
    accuracy = np.bincount(place, right, bins) / least
    return Reliability(
        n=len(labels),
        ece=float((counts * np.abs(confidence - accuracy)).sum() / len(labels)),
        nll=float(-_logarithms(exact)[np.arange(len(labels)), labels].mean()),
        confidence=float(sure.mean()),
        accuracy=float(right.mean()),
        bins=tuple(Bin(*each) for each in zip(counts.tolist(), confidence.tolist(), accuracy.tolist(), strict=True)),
    )


def log_loss(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.uint8]) -> float:
    """Returns the mean negative log-likelihood of the true classes, in nats.

    Args:
        probabilities: Shape (N, 7), N >= 1.
        labels: Shape (N,), 0..6.
    """
    return -float(_logarithms(probabilities.astype(np.float64))[np.arange(len(labels)), labels].mean())


def fit_temperature(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.uint8]) -> float:
    """Finds the number to divide the logits by so that the labels are most likely.

    The negative log-likelihood is convex in the inverse of the temperature: its slope, which is the mean over the
    pictures of (the logit that is expected) less (that of the true class), has one zero and is halved in.

    Args:
        probabilities: Shape (N, 7), N >= 1; their logarithms are logits but for a constant per row.
        labels: Shape (N,), 0..6.

    Returns:
        Above 1 where the answers are surer than they are right, below 1 where they are not sure enough.

    Raises:
        UsageError: It lies outside ``TEMPERATURES``.
    """
    logits = _logarithms(probabilities.astype(np.float64))
    true = logits[np.arange(len(labels)), labels].mean()

    def slope(inverse: float) -> float:
        return float((logits * _softmax(inverse * logits)).sum(axis=1).mean() - true)

    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    if not slope(low) < 0 < slope(high):
        raise UsageError(
            f"No temperature from {TEMPERATURES[0]:g} to {TEMPERATURES[1]:g} makes the probabilities fit these "
            f"{len(labels):,} labels: the answers are all right or hardly better than chance. "
            "Look at the model's accuracy first, or leave its probabilities as they are"
        )
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)


def with_temperature(probabilities: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float64]:
    """Gives the probabilities that a network has whose logits are divided by a temperature, shape (N, 7)."""
    return _softmax(_logarithms(probabilities.astype(np.float64)) / temperature)


def draw_reliability(found: Mapping[str, Reliability], title: str, path: Path) -> None:
    """Draws a reliability diagram: accuracy over confidence, a line each, and how many pictures are how sure.

    Args:
        found: By what the legend calls them.
        title: Of what.
        path: A .png file.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    figure = new_figure(6, 6.5, "a reliability diagram")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 100], [0, 100], color="tab:gray", linestyle=":", label="as right as sure")
    for name, each in found.items():
        reported = [entry for entry in each.bins if entry.n]
        x, y = [100 * entry.confidence for entry in reported], [100 * entry.accuracy for entry in reported]
        upper.plot(x, y, marker="o", markersize=4, label=f"{name}: error {100 * each.ece:.2f} %")
        edges = np.linspace(0, 100, len(each.bins) + 1)
        lower.stairs([100 * entry.n / each.n for entry in each.bins], edges)
    upper.set(ylabel="right, %", title=title, xlim=(0, 100), ylim=(0, 100))
    lower.set(xlabel="largest probability, %", ylabel="pictures, %")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    upper.legend(loc="upper left")
    figure.savefig(path, dpi=110, format="png")


def _logarithms(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(np.maximum(probabilities, _TINY))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares
