"""``fer-deploy train``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fer_deploy.cli.options import DataOption, JsonOption, SkipBadOption
from fer_deploy.cli.progress import progress_bar, steps


def train(
    data: DataOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for model, report and checkpoint.")],
    recipe: Annotated[
        Path | None,
        typer.Option(
            "--recipe", help="A recipe in TOML; without it, train/recipes/first.toml, which needs no other network."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")] = False,
    skip_bad: SkipBadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the 38-layer network on FER-2013.

    Runs on any Keras backend: set KERAS_BACKEND to tensorflow, jax or torch. On
    CPUs torch is the fastest by far (pip install torch). A GPU is used if the
    framework sees one. After each epoch everything is saved: a training that was
    stopped, by Ctrl-C or worse, goes on with --resume.

    Examples:

      fer-deploy train --data fer2013.zip --output runs/first

      fer-deploy train --data fer2013.zip --output runs/first --resume

      fer-deploy train --data fer2013.csv -o runs/small --recipe smoke.toml
    """
    from fer_deploy.data.fer2013_reader import load_fer2013
    from fer_deploy.errors import StoppedError
    from fer_deploy.training.checkpoint import check_folder
    from fer_deploy.training.fit import fit
    from fer_deploy.training.model import import_keras
    from fer_deploy.training.recipe import Recipe, load_recipe
    from fer_deploy.training.report import write_report

    plan = load_recipe(recipe) if recipe else Recipe(name="first")
    check_folder(output, resume)
    import_keras()
    with progress_bar(f"Reading {data.name}") as count:
        dataset = load_fer2013(data, skip_bad=skip_bad, progress=count)
    try:
        with _Progress() as progress:
            fitted = fit(dataset, plan, output, resume, progress)
    except KeyboardInterrupt:
        again = f"fer-deploy train --data {data} --output {output} --resume" + (f" --recipe {recipe}" if recipe else "")
        raise StoppedError(f"stopped; every epoch that was done is saved. Go on with: {again}") from None
    with steps() as step:
        metrics = write_report(fitted, dataset, plan, output, step)
    if as_json:
        _print_json(metrics)
    else:
        _print_summary(metrics, output)


class _Progress:
    """Draws a bar for the epoch under way and prints a line for each that is done, on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("starting", note="")
        self._epochs = 0
        self._started = 0.0

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, event: str, details: dict[str, Any]) -> None:
        if event == "start":
            self._epochs = details["epochs"]
            device = details["device"]
            where = device["gpu"] or "CPU"
            done = f", going on after epoch {details['done']}" if details["done"] else ""
            self._console.print(f"Keras on {device['framework']}, {where}, {device['precision']}{done}")
        elif event == "step":
            self._show_step(details)
        elif event == "epoch":
            left = (self._epochs - details["epoch"]) * details["seconds"]
            self._console.print(
                f"epoch {details['epoch']}/{self._epochs}  loss {details['loss']:.3f}  "
                f"training {details['accuracy']:.2%}  public {details['public_accuracy']:.2%}  "
                f"{details['images_per_s']:.0f} images/s  {_duration(left)} left"
            )

    def _show_step(self, details: dict[str, Any]) -> None:
        if details["step"] == 1:
            self._started = time.monotonic()
        elapsed = time.monotonic() - self._started
        speed = (details["step"] - 1) * details["pictures"] / elapsed if elapsed else 0.0
        self._bar.update(
            self._task,
            description=f"epoch {details['epoch']}/{self._epochs}",
            completed=details["step"],
            total=details["steps"],
            note=f"loss {details['loss']:.3f}  {speed:.0f} images/s",
        )


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _print_summary(metrics: dict[str, Any], output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("partition", "pictures", "top-1 accuracy", "95 % interval")
    for name, score in metrics["scores"].items():
        low, high = score["interval"]
        table.add_row(name, f"{score['n']:,}", f"{score['accuracy']:.2%}", f"{low:.2%} to {high:.2%}")
    Console().print(table)
    print(f"Written to {output}: model.keras, metrics.json, report.md, curves.png, confusion.png, heatmap.png")
    print(f"Next: fer-deploy export {output / 'model.keras'}")


def _print_json(metrics: dict[str, Any]) -> None:
    import json

    from fer_deploy.system.machine import machine_info

    rows = [
        {"split": name, "backend": "keras", "precision": "fp32", "n": score["n"], "accuracy": score["accuracy"]}
        for name, score in metrics["scores"].items()
    ]
    print(json.dumps({"schema": 1, "machine": machine_info(), "summary": metrics["summary"], "rows": rows}))
