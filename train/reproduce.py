#!/usr/bin/env python3
"""Reproduces a shipped model from the data set to the bundle, and says how its accuracy compares.

    pip install -e '.[train,export,onnx]' torch
    KERAS_BACKEND=torch train/reproduce.py --data fer2013.zip
    KERAS_BACKEND=torch train/reproduce.py --data fer2013.zip --recipe train/recipes/fast.toml

Trains a recipe (resumable: start it again and it goes on), exports the bundle into ``runs/<recipe>/bundle`` as
``export/recipes/<recipe>.toml`` says, or with the built-in choices, and compares with what ships. With ``--ship`` the
bundle takes the place of the shipped one of the recipe's name, the results that may be published go to
``results/<recipe>`` and the tables into ``MODEL_CARD.md``, those of ``train/card.py`` included.

A recipe that starts from the weights in ``runs/<other>``, or is taught by the bundle there, needs that one first: what
is not there yet is made, from ``recipes/<other>.toml``: for ``default`` these are ``first``, ``lean``, ``middle``
and ``second``, for ``fast`` only ``first``. ``metrics.json`` has the teachers' hashes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from fer_deploy.errors import FerDeployError
from fer_deploy.training.recipe import load_recipe

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RUNS = ROOT / "runs"
SHIPPED = ROOT / "fer_deploy/assets"
CARD = HERE / "MODEL_CARD.md"
PUBLISHED = ("metrics.json", "report.md", "curves.png", "confusion.png", "heatmap_mean_faces.png")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="FER-2013 in any form that 'fer-deploy data info' reads")
    parser.add_argument("--recipe", type=Path, default=HERE / "recipes/default.toml")
    parser.add_argument("--output", type=Path, help="default: runs/<recipe>")
    parser.add_argument("--ship", action="store_true", help="replace the shipped bundle and results")
    args = parser.parse_args()
    name = args.recipe.stem
    output = args.output or RUNS / name
    export_recipe = export_recipe_of(name)
    if args.ship and not (export_recipe.exists() and f"<!-- {name}: " in CARD.read_text(encoding="utf-8")):
        parser.error(f"--ship needs {export_recipe}, and in {CARD} the place of the tables: <!-- {name}: begin -->")
    try:
        for needed in what_is_missing(args.recipe):
            train(args.data, HERE / f"recipes/{needed}.toml", RUNS / needed)
            export(args.data, RUNS / needed, export_recipe_of(needed))
    except FerDeployError as error:
        sys.exit(f"train/reproduce.py: {error}")
    train(args.data, args.recipe, output)
    if args.ship:
        publish(output, HERE / "results" / name)
        CARD.write_text(with_tables(CARD.read_text(encoding="utf-8"), name, output), encoding="utf-8")
    before = shipped_accuracy(name)
    if args.ship:
        model = str(output / "model.keras")
        run(str(ROOT / "export/reproduce.py"), model, "--bundle", name, "--data", args.data, "--ship")
        run(str(HERE / "card.py"), "--bundle", name, "--data", args.data)
    else:
        export(args.data, output, export_recipe)
    compare(output, before)


def export_recipe_of(name: str) -> Path:
    """Says where a recipe's way of exporting stands, if it has one of its own."""
    return ROOT / f"export/recipes/{name}.toml"


def what_is_missing(recipe: Path) -> list[str]:
    """Finds the recipes whose outcome this one needs and which have not been made here, in the order to make them.

    Args:
        recipe: Its ``initial`` and ``teachers`` in ``runs/<name>`` name others.

    Raises:
        TrainingError: One of them is no recipe.
    """
    missing: list[str] = []
    for stage in load_recipe(recipe).stages:
        for path in map(Path, filter(None, (stage.initial, *stage.teachers))):
            if path.is_relative_to(RUNS) and not path.exists():
                name = path.relative_to(RUNS).parts[0]
                needed = [*what_is_missing(HERE / f"recipes/{name}.toml"), name]
                missing += [each for each in needed if each not in missing]
    return missing


def train(data: str, recipe: Path, output: Path) -> None:
    """Trains, or goes on where an earlier call stopped; a finished training is not repeated."""
    if (output / "report.md").exists():  # which is written last
        print(f"{output} holds a finished training; remove it to train again")
        return
    resume = ["--resume"] if (output / "checkpoint.npz").exists() else []
    run("-m", "fer_deploy", "train", "--data", data, "--recipe", str(recipe), "--output", str(output), *resume)


def export(data: str, folder: Path, recipe: Path) -> None:
    """Makes the bundle of what was trained into a folder, in a folder in it."""
    options = ["--recipe", str(recipe)] if recipe.exists() else []
    options += ["--output", str(folder / "bundle"), "--overwrite"]
    run("-m", "fer_deploy", "export", str(folder / "model.keras"), "--data", data, *options)


def run(*arguments: str) -> None:
    """Runs Python in a process of its own: training and export may want different Keras backends."""
    environment = dict(os.environ)
    if "train" not in arguments:
        environment["KERAS_BACKEND"] = "tensorflow"
    code = subprocess.run([sys.executable, *arguments], env=environment, check=False).returncode
    if code:
        sys.exit(code)


def publish(output: Path, results: Path) -> None:
    """Copies what shows no picture of FER-2013."""
    results.mkdir(parents=True, exist_ok=True)
    for name in PUBLISHED:
        shutil.copy(output / name, results / name)


def with_tables(card: str, name: str, output: Path) -> str:
    """Puts the training's tables between the marks that the model card has for them.

    Args:
        card: The card, with ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``.
        name: Of the bundle.
        output: A folder with the training's report.
    """
    lines = (output / "report.md").read_text(encoding="utf-8").replace("%", " %").replace("95  %", "95 %").splitlines()
    summary = textwrap.fill(next(line for line in lines[1:] if line), 120)
    first = next(number for number, line in enumerate(lines) if line.startswith("| partition"))
    last = next(number for number, line in enumerate(lines) if number > first and not line)
    begin, end = (f"<!-- {name}: {word} -->" for word in ("begin", "end"))
    before, _, rest = card.partition(begin)
    _, _, after = rest.partition(end)
    return "\n".join([before + begin, summary, "", *lines[first:last], end + after])


def shipped_accuracy(name: str) -> dict[str, float]:
    """Reads what the shipped bundle of that name recorded of its training, the default one where none has the name."""
    manifest = next((path for path in (SHIPPED / n / "bundle.json" for n in (name, "default")) if path.exists()), None)
    if manifest is None:
        return {}
    accuracy: dict[str, float] = json.loads(manifest.read_text(encoding="utf-8"))["training"].get("accuracy", {})
    return accuracy


def compare(output: Path, shipped: dict[str, float]) -> None:
    """Prints the new accuracies beside those that shipped before."""
    new = json.loads((output / "metrics.json").read_text(encoding="utf-8"))["summary"]["accuracy"]
    for name, accuracy in new.items():
        before = f"{shipped[name]:.2%}" if name in shipped else "-"
        print(f"{name:12} here {accuracy:.2%}   shipped {before}")


if __name__ == "__main__":
    main()
