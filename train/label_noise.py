#!/usr/bin/env python3
"""Finds Training pictures whose labels are doubtful, for a recipe's ``excluded``.

    pip install -e '.[train]' torch
    KERAS_BACKEND=torch train/label_noise.py --data fer2013.zip
    KERAS_BACKEND=torch train/study.py train/studies/label_noise.toml --data fer2013.zip

Training is cut into folds; for each, a network is trained on the others, for a few epochs and without teachers, and
asked about the pictures of this one, which it has not seen. In each class the pictures whose label it believes least
are written to ``excluded.txt``, one name per line; ``label_noise.csv`` has what was thought of every picture. It can be
stopped at any time: started again, it goes on with the epoch that was not finished.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fer_deploy.data.fer2013 import TRAINING
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.errors import FerDeployError
from fer_deploy.labels import LABELS
from fer_deploy.system.files import written_whole
from fer_deploy.training.label_noise import doubtful, out_of_fold
from fer_deploy.training.recipe import load_recipe

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="FER-2013 in any form that 'fer-deploy data info' reads"
    )
    parser.add_argument("--recipe", type=Path, default=HERE / "recipes/narrow.toml")
    parser.add_argument("--folds", type=int, default=3, help="at least 2")
    parser.add_argument("--epochs", type=int, default=8, help="of each stage of the recipe")
    parser.add_argument("--share", type=float, default=0.05, help="of each class, which is left out at most")
    parser.add_argument("--output", type=Path, default=HERE.parent / "runs/label_noise")
    args = parser.parse_args()
    if args.folds < 2 or args.epochs < 1 or not 0 < args.share < 1:
        parser.error("--folds must be at least 2, --epochs at least 1, --share between 0 and 1")
    try:
        recipe = load_recipe(args.recipe)
        stages = tuple(dataclasses.replace(stage, epochs=args.epochs) for stage in recipe.stages)
        data = load_fer2013(args.data)
        answers = out_of_fold(data, dataclasses.replace(recipe, stages=stages), args.folds, args.output, told)
        training = data.partition(TRAINING)
        marked = doubtful(answers, training.labels, args.share)
        with written_whole(args.output / "label_noise.csv") as partial, partial.open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("name", "label", *LABELS, "excluded"))
            for name, label, row, left in zip(training.names, training.labels, answers, marked, strict=True):
                table.writerow((name, LABELS[label], *(f"{p:.4f}" for p in row), int(left)))
        with written_whole(args.output / "excluded.txt") as partial:
            partial.write_text("".join(f"{training.names[i]}\n" for i in np.flatnonzero(marked)), encoding="utf-8")
    except FerDeployError as error:
        sys.exit(f"train/label_noise.py: {error}")
    agreed = float((answers.argmax(axis=1) == training.labels).mean())
    print(f"{agreed:.2%} of {len(marked)} labels are believed; {marked.sum()} are left out: {args.output}/excluded.txt")
    for label, name in enumerate(LABELS):
        own = training.labels == label
        print(f"  {name:9} {(marked & own).sum():5} of {own.sum()}")


def told(event: str, details: dict[str, Any]) -> None:
    """Prints a line after each epoch."""
    if event == "epoch":
        print(
            f"epoch {details['epoch']}  public {details['public_accuracy']:.2%}  {details['seconds']:.0f} s", flush=True
        )


if __name__ == "__main__":
    main()
