"""What a training leaves behind: the model, its figures for machines and people, and pictures."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_deploy import __version__
from fer_deploy.data.fer2013 import PRIVATE, PUBLIC, TRAINING, Fer2013, Partition
from fer_deploy.metrics.accuracy import Score, score
from fer_deploy.metrics.duplicates import Unseen, copies_table, without_copies
from fer_deploy.system.machine import machine_info
from fer_deploy.training.fit import CLEAN_SAMPLE, Fitted, as_json, predict
from fer_deploy.training.heatmap import mean_faces, occlusion_map, surest_examples
from fer_deploy.training.model import count_layers
from fer_deploy.training.plots import draw_confusion, draw_curves, draw_heatmaps
from fer_deploy.training.recipe import Recipe
from fer_deploy.training.teachers import Teachers

EXAMPLES_PER_CLASS = 3


def write_report(
    fitted: Fitted, data: Fer2013, recipe: Recipe, output: Path, step: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Scores the kept weights on the test partitions and writes everything into a folder.

    Written: ``model.keras``, ``metrics.json``, ``curves.png``, ``confusion.png``, ``heatmap.png`` (real pictures of
    the data set, not for publication), ``heatmap_mean_faces.png`` (for publication), ``report.md``.

    Args:
        fitted: The training's outcome.
        data: With PublicTest; PrivateTest, where there is one, is scored here and nowhere before.
        recipe: What was done.
        output: The folder.
        step: Called with a line before each step.

    Returns:
        The content of ``metrics.json``.
    """
    output.mkdir(parents=True, exist_ok=True)
    fitted.model.save(output / "model.keras")

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return predict(fitted.model, images)

    step("Scoring the test partitions")
    answers = {name: answer(data.partitions[name].images) for name in (PUBLIC, PRIVATE) if name in data.partitions}
    scores = score_partitions(answers, data)
    unseen = without_copies(answers, data)
    metrics = {**_metrics(fitted, data, recipe, scores), "without_copies": {k: u.as_dict() for k, u in unseen.items()}}
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    draw_curves(fitted.history, fitted.best["epoch"], output / "curves.png")
    best_proof = PRIVATE if PRIVATE in scores else PUBLIC
    draw_confusion(scores[best_proof], best_proof, output / "confusion.png")
    step("Drawing heat maps")
    examples = surest_examples(answers[PUBLIC], data.partition(PUBLIC), EXAMPLES_PER_CLASS)
    draw_heatmaps(_with_maps(answer, examples), output / "heatmap.png")
    means = [[face] for face in mean_faces(data.partition(TRAINING))]
    draw_heatmaps(_with_maps(answer, means), output / "heatmap_mean_faces.png")
    (output / "report.md").write_text(_markdown(metrics, scores, unseen), encoding="utf-8")
    return metrics


def score_partitions(answers: Mapping[str, NDArray[np.float32]], data: Fer2013) -> dict[str, Score]:
    """Scores PublicTest, PrivateTest and, where there are both, the whole test folder as ``Test``."""
    found = {name: data.partitions[name] for name in answers}
    scores = {name: score(answers[name], partition.labels) for name, partition in found.items()}
    if len(found) == 2:
        labels = np.concatenate([partition.labels for partition in found.values()])
        scores["Test"] = score(np.concatenate(list(answers.values())), labels)
    return scores


def _metrics(fitted: Fitted, data: Fer2013, recipe: Recipe, scores: dict[str, Score]) -> dict[str, Any]:
    seconds = sum(row["seconds"] for row in fitted.history)
    return {
        "schema": 1,
        "summary": {
            "recipe": recipe.name,
            "epochs": recipe.epochs,
            "kept_epoch": fitted.best["epoch"],
            "layers": count_layers(fitted.model),
            "parameters": fitted.model.count_params(),
            "accuracy": {name: result.accuracy for name, result in scores.items()},
            "public_log_loss": fitted.best["public_log_loss"],
            "clean_accuracy": fitted.best["clean_accuracy"],
            "training_seconds": round(seconds, 1),
        },
        "recipe": as_json(dataclasses.asdict(recipe)),
        "teachers": [Teachers(stage.teachers).digests for stage in recipe.stages],
        "data": {name: _describe(partition) for name, partition in data.partitions.items()},
        "device": fitted.device,
        "machine": machine_info(),
        "versions": {"fer-deploy": __version__, "python": platform.python_version(), "numpy": np.__version__},
        "scores": {name: result.as_dict() for name, result in scores.items()},
        "epochs": fitted.history,
    }


def _describe(partition: Partition) -> dict[str, Any]:
    return {"n": len(partition), "sha256": partition.fingerprint()}


def _with_maps(answer: Any, rows: list[list[NDArray[np.uint8]]]) -> list[list[tuple[Any, Any]]]:
    return [[(image, occlusion_map(answer, image, label)) for image in row] for label, row in enumerate(rows)]


def _markdown(metrics: dict[str, Any], scores: dict[str, Score], unseen: dict[str, Unseen]) -> str:
    summary, device = metrics["summary"], metrics["device"]
    where = device["gpu"] or "CPU"
    lines = [
        f"# Training report: {summary['recipe']}",
        "",
        f"{summary['layers']} layers, {summary['parameters']:,} parameters; {summary['epochs']} epochs in "
        f"{summary['training_seconds'] / 60:.0f} minutes on {where} (Keras {device['keras']} on {device['framework']} "
        f"{device['framework_version']}, {device['precision']}). The weights of epoch {summary['kept_epoch']} were "
        f"kept: the best on PublicTest, where their log-loss is {summary['public_log_loss']:.4f} nats; of "
        f"{CLEAN_SAMPLE:,} unchanged Training images {summary['clean_accuracy']:.2%} are classified correctly.",
        "",
        "| partition | pictures | top-1 accuracy | 95 % interval |",
        "|---|---:|---:|---|",
    ]
    for name, result in scores.items():
        low, high = result.interval
        lines.append(f"| {name} | {result.n:,} | {result.accuracy:.2%} | {low:.2%} to {high:.2%} |")
    lines += ["", "## Without copies of pictures that the model was made with", ""]
    lines += copies_table(unseen, {name: result.accuracy for name, result in scores.items()})
    for name, result in scores.items():
        lines += ["", f"## {name} by class", "", "| class | precision | recall | F1 | pictures |"]
        lines.append("|---|---:|---:|---:|---:|")
        for c in result.classes:
            lines.append(f"| {c.label} | {c.precision:.3f} | {c.recall:.3f} | {c.f1:.3f} | {c.support:,} |")
    lines += ["", "![Curves](curves.png)", "", "![Confusion matrix](confusion.png)", ""]
    lines += ["![Where it looks: mean face of each class](heatmap_mean_faces.png)", ""]
    return "\n".join(lines)
