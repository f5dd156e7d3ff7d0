"""Pictures of a training: curves, confusion matrix, heat maps. Matplotlib draws into files, never on a screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_deploy.labels import LABELS
from fer_deploy.metrics.accuracy import Score
from fer_deploy.system.figures import new_figure


def draw_curves(history: Sequence[dict[str, Any]], best_epoch: int, path: Path) -> None:
    """Draws loss, accuracies and learning rate over the epochs; marks the epoch whose weights were kept."""
    figure = _figure(11, 4)
    epochs = [row["epoch"] for row in history]
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [row["loss"] for row in history], label="loss, Training (augmented)")
    left.plot(epochs, [row["public_log_loss"] for row in history], label="log-loss, PublicTest")
    left.set(xlabel="epoch", ylabel="loss, nats")
    rate = left.twinx()
    rate.plot(epochs, [row["learning_rate"] for row in history], color="tab:gray", linestyle=":", label="learning rate")
    rate.set(ylabel="learning rate")
    left.legend(loc="upper right")
    rate.legend(loc="lower left")
    right.plot(epochs, [100 * row["accuracy"] for row in history], label="Training (augmented)")
    right.plot(epochs, [100 * row["clean_accuracy"] for row in history], label="Training (unchanged)")
    right.plot(epochs, [100 * row["public_accuracy"] for row in history], label="PublicTest (averaged weights)")
    right.axvline(best_epoch, color="tab:gray", linestyle=":", label=f"kept: epoch {best_epoch}")
    right.set(xlabel="epoch", ylabel="top-1 accuracy, %")
    right.grid(alpha=0.3)
    right.legend()
    figure.savefig(path, dpi=110)


def draw_confusion(score: Score, title: str, path: Path) -> None:
    """Draws the confusion matrix, each row in percent of its true class, with counts."""
    counts = np.array(score.confusion)
    percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = _figure(7.5, 6.5)
    axes = figure.subplots()
    shown = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(LABELS)), LABELS, rotation=40)
    axes.set_yticks(range(len(LABELS)), LABELS)
    axes.set(xlabel="predicted", ylabel="true", title=f"{title}: {100 * score.accuracy:.2f} % of {score.n}")
    for (y, x), value in np.ndenumerate(percent):
        text = f"{value:.0f} %\n{counts[y, x]}"
        axes.text(x, y, text, ha="center", va="center", fontsize=8, color="white" if value > 55 else "black")
    figure.colorbar(shown, label="% of the true class")
    figure.savefig(path, dpi=110)


def draw_heatmaps(rows: Sequence[Sequence[tuple[NDArray[np.uint8], NDArray[np.float32]]]], path: Path) -> None:
    """Draws pictures with their occlusion maps laid over them.

    Args:
        rows: One row a class in the order of ``LABELS``, each of (picture, map) pairs; rows may differ in length.
        path: Where to.
    """
    columns = max(len(row) for row in rows)
    figure = _figure(3 * columns + 1, 1.5 * len(rows))
    grid = figure.subplots(len(rows), 2 * columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for label, row, line in zip(LABELS, rows, grid, strict=True):
        line[0].set_title(label, loc="left", fontsize=10)
        for i, (image, heat) in enumerate(row):
            line[2 * i].imshow(image, cmap="gray", vmin=0, vmax=255)
            line[2 * i + 1].imshow(image, cmap="gray", vmin=0, vmax=255)
            line[2 * i + 1].imshow(heat, cmap="inferno", alpha=0.6)
    figure.savefig(path, dpi=90)


def _figure(width: float, height: float) -> Any:
    return new_figure(width, height, "a training's report")
