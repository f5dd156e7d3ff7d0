#!/usr/bin/env python3
"""Trains what a study lists, one run after the other, and adds a row for each to ``results/ablations.csv``.

    pip install -e '.[train]' torch
    KERAS_BACKEND=torch train/study.py train/studies/settings.toml --data fer2013.zip
    train/study.py train/studies/settings.toml --data fer2013.zip --only no-erase --final

A study is a TOML file: a ``base`` recipe, ``seeds``, and tables ``[[run]]`` with the keys that differ. It can be
stopped at any time: started again, it goes on with the epoch that was not finished and leaves out what has a row.
PrivateTest is not looked at, but with ``--final``, which scores the weights that were best on PublicTest, of runs that
are done as well. ``--table`` only writes ``ablations.md`` anew, after a row was added by hand.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path
from typing import Any

from fer_deploy.data.fer2013 import PRIVATE, Fer2013
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.errors import FerDeployError
from fer_deploy.metrics.accuracy import score
from fer_deploy.system.machine import machine_info
from fer_deploy.training.checkpoint import FILE
from fer_deploy.training.fit import fit, predict
from fer_deploy.training.model import import_keras
from fer_deploy.training.study import Run, find_row, load_study, read_table, row_of, write_table

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?", help="a TOML file")
    parser.add_argument("--data", type=Path, help="FER-2013 in any form that 'fer-deploy data info' reads")
    parser.add_argument("--only", help="names of runs, with commas between")
    parser.add_argument("--final", action="store_true", help="score PrivateTest, too")
    parser.add_argument("--results", type=Path, default=HERE / "results/ablations.csv", help="the table")
    parser.add_argument("--output", type=Path, help="checkpoints and weights; default: runs/studies/<study>")
    parser.add_argument("--table", action="store_true", help="write the Markdown table anew, and nothing else")
    args = parser.parse_args()
    try:
        if args.table:
            write_table(args.results, read_table(args.results))
            return
        if not args.study or not args.data:
            parser.error("a study and --data are needed")
        runs = load_study(args.study)
        wanted = args.only.split(",") if args.only else [run.name for run in runs]
        if unknown := set(wanted) - {run.name for run in runs}:
            parser.error(f"the study has no run {sorted(unknown)[0]!r}")
        data, output = load_fer2013(args.data), args.output or HERE.parent / "runs/studies" / args.study.stem
        for run in runs:
            if run.name in wanted:
                train(args.study.stem, run, data, output / f"{run.name}-{run.recipe.seed}", args.results, args.final)
    except FerDeployError as error:
        sys.exit(f"train/study.py: {error}")


def train(study: str, run: Run, data: Fer2013, folder: Path, results: Path, final: bool) -> None:
    """Trains a run as far as it is not done, and adds its row, or what its row lacks."""
    row = find_row(read_table(results), study, run)
    if row is not None and (row["private"] or not final):
        print(
            f"{run.name}, seed {run.recipe.seed}: done, {float(row['public_best'] or 0):.2%} on PublicTest", flush=True
        )
        return
    if final and row is not None and (folder / "model.keras").exists():
        model = import_keras().models.load_model(folder / "model.keras", compile=False)
        row = {**row, "private": f"{accuracy(model, data):.6f}"}
    else:
        fitted = fit(data, run.recipe, folder, (folder / FILE).exists(), told(run))
        fitted.model.save(folder / "model.keras")
        machine = fitted.device["gpu"] or machine_info()["cpu_class"]
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        row = row_of(study, run, fitted, machine, today, accuracy(fitted.model, data) if final else None)
        import_keras().utils.clear_session()
    key = (row["study"], row["run"], row["seed"])
    rows = read_table(results)  # once more: another study may have added to it meanwhile
    if key in (keys := [(each["study"], each["run"], each["seed"]) for each in rows]):
        rows[keys.index(key)] = row
    else:
        rows.append(row)
    write_table(results, rows)
    print(f"{run.name}, seed {run.recipe.seed}: {float(row['public_best']):.2%} on PublicTest", flush=True)


def accuracy(model: Any, data: Fer2013) -> float:
    """Share of right answers on PrivateTest."""
    partition = data.partition(PRIVATE)
    return score(predict(model, partition.images), partition.labels).accuracy


def told(run: Run) -> Any:
    """Prints a line after each epoch."""

    def report(event: str, details: dict[str, Any]) -> None:
        if event == "epoch":
            print(
                f"{run.name}, seed {run.recipe.seed}: epoch {details['epoch']}/{run.recipe.epochs}  "
                f"public {details['public_accuracy']:.2%}  {details['seconds']:.0f} s",
                flush=True,
            )

    return report


if __name__ == "__main__":
    main()
