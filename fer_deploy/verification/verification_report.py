"""The report of a verification: figures as text, and three pictures.

What a verification says in words, the same on the terminal and in its report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.data.fer2013 import Partition
from fer_deploy.errors import OutputError
from fer_deploy.labels import LABELS
from fer_deploy.metrics.accuracy import score
from fer_deploy.metrics.calibration import draw_reliability, reliability
from fer_deploy.system.figures import new_figure
from fer_deploy.system.files import written_whole
from fer_deploy.verification.self_test import SPLIT
from fer_deploy.verification.tolerances import AGREEMENT_FLOORS
from fer_deploy.verification.variants import KERAS, ModelVariant
from fer_deploy.verification.verifier import SKIPPED, Verification

FACES: Final = 24
_COLUMNS: Final = 8
_WHAT: Final = "a verification's report"
VariantPredictions = Sequence[tuple[ModelVariant, NDArray[np.float32]]]


def check_report(folder: Path) -> None:
    """Makes sure, before anything is measured, that a report can be drawn and written.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
        OutputError: The folder cannot be made.
    """
    new_figure(1, 1, _WHAT)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror or error}") from error


def write_report(folder: Path, verification: Verification, partition: Partition, title: str) -> tuple[str, ...]:
    """Writes ``report.md`` and the pictures ``accuracy``, ``reliability``, ``confusion_difference``, ``disagreements``.

    Args:
        folder: Where to; it exists.
        verification: The outcome, with labels.
        partition: The pictures. Some are drawn into ``disagreements.png``, which is not for publication.
        title: What was verified.

    Returns:
        The names of the files; the last two pictures are left out where no form but Keras ran.

    Raises:
        OutputError: A file cannot be written.
    """
    predictions = [(e.row.variant, e.probabilities) for e in verification.examined if e.probabilities is not None]
    others = [(variant, found) for variant, found in predictions if variant != KERAS]
    reference = verification.reference.probabilities
    images: dict[str, Callable[[Path], None]] = {"accuracy.png": lambda path: _draw_accuracy(verification, path)}
    images["reliability.png"] = lambda path: _draw_reliability(predictions, partition.labels, verification.split, path)
    if others:
        images["confusion_difference.png"] = lambda path: _draw_confusion(others, reference, partition.labels, path)
        images["disagreements.png"] = lambda path: _draw_faces(others, reference, partition, path)
    for name, draw in images.items():
        with written_whole(folder / name) as partial:
            draw(partial)
    with written_whole(folder / "report.md") as partial:
        partial.write_text(_markdown(verification, title, tuple(images)), encoding="utf-8")
    return ("report.md", *images)


def _draw_accuracy(verification: Verification, path: Path) -> None:
    """Draws accuracy with its interval against precision, a colour per backend, and the gate."""
    figure = new_figure(8, 4.5, _WHAT)
    axes = figure.subplots()
    rows = [row for row in verification.rows if row.accuracy is not None]
    precisions = [name for name in AGREEMENT_FLOORS if any(row.precision == name for row in rows)]
    backends = list(dict.fromkeys(row.backend for row in rows))
    for place, backend in enumerate(backends):
        ours = [row for row in rows if row.backend == backend]
        x = [precisions.index(row.precision) + 0.12 * (place - (len(backends) - 1) / 2) for row in ours]
        y = [100 * (row.accuracy or 0) for row in ours]
        below = [value - 100 * (row.interval or (0, 0))[0] for value, row in zip(y, ours, strict=True)]
        above = [100 * (row.interval or (0, 0))[1] - value for value, row in zip(y, ours, strict=True)]
        axes.errorbar(x, y, yerr=[below, above], fmt="o", capsize=3, label=backend)
    target = verification.limits["target"]
    if target is not None:
        least = 100 * target - verification.limits["tolerance_points"]
        axes.axhline(least, color="tab:red", linestyle=":", label=f"gate, {least:.2f} %")
    axes.set_xticks(range(len(precisions)), precisions)
    axes.set(xlabel="precision", ylabel="top-1 accuracy, % (95 % interval)")
    axes.set_title(f"{verification.split}, {verification.n:,} pictures")
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    figure.savefig(path, dpi=110, format="png")


def _draw_reliability(predictions: VariantPredictions, labels: NDArray[np.uint8], split: str, path: Path) -> None:
    draw_reliability({str(variant): reliability(found, labels) for variant, found in predictions}, split, path)


def _draw_confusion(
    others: VariantPredictions, reference: NDArray[np.float32], labels: NDArray[np.uint8], path: Path
) -> None:
    """Draws, for each form, its confusion matrix less Keras's, in percent of the true class."""
    columns = min(3, len(others))
    lines = -(-len(others) // columns)
    figure = new_figure(4.2 * columns, 4 * lines, _WHAT)
    grid = figure.subplots(lines, columns, squeeze=False)
    keras = _confusion_percent(reference, labels)
    differences = [_confusion_percent(found, labels) - keras for _, found in others]
    most = max(1.0, *(float(np.abs(difference).max()) for difference in differences))
    shown: Any = None
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (variant, _), difference in zip(grid.flat, others, differences, strict=False):
        axes.set_axis_on()
        shown = axes.imshow(difference, cmap="RdBu", vmin=-most, vmax=most)
        axes.set_xticks(range(len(LABELS)), LABELS, rotation=60, fontsize=8)
        axes.set_yticks(range(len(LABELS)), LABELS, fontsize=8)
        axes.set_title(str(variant), fontsize=10)
        for (y, x), value in np.ndenumerate(difference):
            if abs(value) >= 0.05:
                colour = "white" if abs(value) > 0.6 * most else "black"
                axes.text(x, y, f"{value:+.1f}", ha="center", va="center", fontsize=7, color=colour)
    figure.supxlabel("predicted")
    figure.supylabel("true")
    figure.colorbar(shown, ax=grid, label="points more or less than Keras", shrink=0.8)
    figure.savefig(path, dpi=110, format="png")


def _draw_faces(others: VariantPredictions, reference: NDArray[np.float32], partition: Partition, path: Path) -> None:
    """Draws the pictures on which the forms lie furthest from Keras, with each form's answer."""
    distance = np.sum([np.abs(found - reference).sum(axis=1) for _, found in others], axis=0)
    split = np.any([found.argmax(axis=1) != reference.argmax(axis=1) for _, found in others], axis=0)
    order = np.argsort(-(distance + 100 * split), kind="stable")[:FACES]
    lines = -(-len(order) // _COLUMNS)
    figure = new_figure(2.1 * _COLUMNS, (1.9 + 0.16 * len(others)) * lines, _WHAT)
    grid = figure.subplots(lines, _COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, i in zip(grid.flat, order, strict=False):
        axes.imshow(partition.images[i], cmap="gray", vmin=0, vmax=255)
        reported = [f"true {LABELS[partition.labels[i]]}", f"keras {_prediction(reference[i])}"]
        reported += [
            f"{variant} {_prediction(found[i])}"
            for variant, found in others
            if found[i].argmax() != reference[i].argmax()
        ]
        axes.set_title("\n".join(reported), fontsize=7)
    figure.savefig(path, dpi=110, format="png")


def _confusion_percent(probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    counts = np.array(score(probabilities, labels).confusion, np.float64)
    percent: NDArray[np.float64] = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return percent


def _prediction(row: NDArray[np.float32]) -> str:
    return f"{LABELS[row.argmax()]} {row.max():.0%}"


def _markdown(verification: Verification, title: str, images: Sequence[str]) -> str:

    lines = [f"# Verification of {title}", "", f"{verification.n:,} pictures of {verification.split}."]
    lines += [f"{reference_line(verification)}.", "", *(f"- {line}" for line in gate_lines(verification)), ""]
    lines += [f"- **FAILED** {line}" for line in verification.failures] or ["Every form that ran passed."]
    lines += ["", "| form | computed in | machine | accuracy | 95 % interval | drift, points | p | calibration error "]
    lines[-1] += "| same top-1 | mean difference | worst | images/s | status |"
    lines.append("|---|---|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---|")
    for row in verification.rows:
        if row.accuracy is None or row.interval is None:
            lines.append(f"| {row.variant} |  |  |  |  |  |  |  |  |  |  |  | {row.status}: {row.reason} |")
            continue
        speed = "" if row.images_per_s is None else f"{row.images_per_s:,.0f}"
        lines.append(
            f"| {row.variant} | {row.effective}{', simulated' if row.simulated else ''} | {row.machine} | "
            f"{row.accuracy:.2%} | {row.interval[0]:.2%} to {row.interval[1]:.2%} | {row.drift_points:+.2f} | "
            f"{row.drift_p:.2g} | {row.ece:.2%} | {row.agreement:.2%} | {row.mean_abs_difference:.1e} | "
            f"{row.max_abs_difference:.1e} | {speed} | {row.status} |"
        )
    lines += ["", "## Accuracy by class", "", f"| form | {' | '.join(LABELS)} |", "|---|" + "---:|" * len(LABELS)]
    for row in verification.rows:
        if row.class_accuracy is not None:
            shares = [f"{row.class_accuracy[label]:.1%}" if label in row.class_accuracy else "" for label in LABELS]
            lines.append(f"| {row.variant} | {' | '.join(shares)} |")
    lines += ["", *(f"![{name}]({name})" for name in images)]
    if "disagreements.png" in images:
        lines += ["", "disagreements.png shows pictures of the data set: not for publication."]
    return "\n".join(lines) + "\n"


def reference_line(verification: Verification) -> str:
    """Names what the forms were compared with."""
    reference = verification.reference
    if reference.measured is not None:
        tta = verification.tta
        twice = f"; --tta {tta}: every answer is the mean of those to a picture and to its mirror image" if tta else ""
        return f"Compared with {reference.measured.runtime}, which ran here{twice}"
    if verification.split == SPLIT:
        return "Compared with Keras's answers that the bundle holds"
    return "Compared with Keras's answers that the bundle holds; Keras itself did not run"


def gate_lines(verification: Verification) -> list[str]:
    """Tells the limits, one line each; of a self-test those of the precisions that ran."""
    limits = verification.limits
    ran = {row.precision for row in verification.rows if row.status != SKIPPED}
    if "limits" in limits:
        return [
            f"Limits of {precision}: same top-1 at least {100 * limit['agreement']:g} %, "
            f"mean difference of a probability at most {limit['mean_abs_difference']:g}"
            for precision, limit in limits["limits"].items()
            if precision in ran
        ]
    floors = ", ".join(f"{precision} {100 * floor:g} %" for precision, floor in limits["agreement_floors"].items())
    lines = [
        f"Gate: at most {limits['max_drift_points']:g} points from Keras's accuracy, up or down",
        f"Gate: same top-1 at least {floors}",
    ]
    if limits["target"] is None:
        return ["Accuracy is not gated: the bundle has no target (give one with --target)", *lines]
    target, tolerance = 100 * limits["target"], limits["tolerance_points"]
    return [f"Gate: accuracy at least {target - tolerance:.2f} % (target {target:.2f} % less {tolerance:g})", *lines]


def skipped_lines(verification: Verification) -> list[str]:
    """Tells what did not run and why, forms of the same reason on one line."""
    by_reason: dict[str, list[str]] = {}
    for row in verification.rows:
        if row.status == SKIPPED:
            by_reason.setdefault(row.reason or "", []).append(str(row.variant))
    return [f"skipped {', '.join(variants)}: {reason}" for reason, variants in by_reason.items()]


def outcome_line(verification: Verification) -> str:
    """Sums up in one line."""
    ran = sum(row.status != SKIPPED for row in verification.rows)
    if verification.passed:
        what = (
            "no accuracy was measured (give FER-2013 with --data)" if verification.split == SPLIT else "accuracy held"
        )
        return f"Passed: {ran} forms, {what}"
    return f"FAILED: {len(verification.failures)} of the forms that ran or were required ({ran} ran)"
