"""Ablations: a list of recipes that differ from a base one in a few keys, and the table that their results make."""

from __future__ import annotations

import copy
import csv
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fer_deploy.errors import OutputError, TrainingError
from fer_deploy.system.files import written_whole
from fer_deploy.system.toml import read_toml, take_table
from fer_deploy.training.fit import Fitted, as_json
from fer_deploy.training.recipe import Recipe, load_recipe, parse_recipe

COLUMNS: Final = (
    *("study", "run", "recipe", "differs", "seed", "epochs", "parameters", "seconds", "machine", "framework"),
    *("public_best", "best_epoch", "public_last", "public_log_loss", "clean_accuracy", "private", "date"),
    "settings_sha256",
)
"""Of the table; accuracies are fractions, ``private`` is empty but for finalists. A row that was measured elsewhere may
leave any but the first two empty."""
_TABLES: Final = ("model", "augmentation", "stage")
_SHOWN: Final = (
    "study",
    "run",
    "differs",
    "seed",
    "epochs",
    "minutes",
    "machine",
    "PublicTest",
    "last epoch",
    "log-loss",
    "unchanged Training",
    "PrivateTest",
)

Row = dict[str, str]


@dataclass(frozen=True)
class Run:
    """One training of a study.

    Args:
        name: Unique in its study.
        base: The base recipe's name.
        differs: What is not as in the base recipe, for people to read.
        recipe: What is done, with its seed.
    """

    name: str
    base: str
    differs: str
    recipe: Recipe

    @property
    def digest(self) -> str:
        """Tells one run's settings from another's, as 16 hexadecimal digits; paths do not count, names do."""
        settings = json.dumps(as_json(dataclasses.asdict(self.recipe)), sort_keys=True)
        return hashlib.sha256(settings.encode()).hexdigest()[:16]


def load_study(path: Path) -> list[Run]:
    """Reads a study: a TOML file with a ``base`` recipe, ``seeds`` and tables ``[[run]]``.

    A run has a ``name`` and the keys that differ from the base recipe: ``[run.model]``, ``[run.augmentation]`` and
    ``[run.stage]`` change single keys of it (``stage`` of every stage), ``seeds`` those of this run.

    Raises:
        TrainingError: It is unreadable, not TOML, or has an unknown key or a value that cannot be.
    """
    raw = read_toml(path, "The study", TrainingError)
    try:
        base = (path.parent / _take(raw, "base", str, "")).resolve()
        seeds, runs = _take(raw, "seeds", list, [0]), _take(raw, "run", list, [])
        if raw:
            raise ValueError(f"there is no key {next(iter(raw))!r:.40} in a study")
        if not base.is_file() or not runs:
            raise ValueError('it needs base = "a recipe\'s file", relative to the study, and at least one [[run]]')
        load_recipe(base)  # so that what is wrong with it is not said of the study
        found = [run for entry in runs for run in _runs(entry, base, seeds)]
    except (TypeError, ValueError) as error:
        raise TrainingError(f"The study {path} is wrong: {error}") from error
    names = [(run.name, run.recipe.seed) for run in found]
    for name, seed in names:
        if names.count((name, seed)) > 1:
            raise TrainingError(f"The study {path} is wrong: two runs have the name {name!r} and the seed {seed}")
    return found


def _runs(entry: Any, base: Path, seeds: Sequence[Any]) -> list[Run]:
    if not isinstance(entry, dict):
        raise ValueError("run is not a list of tables: write [[run]]")
    entry = copy.deepcopy(entry)
    name = _take(entry, "name", str, "")
    if not name.isprintable() or not name or "/" in name:
        raise ValueError(f"a run's name is {name!r:.40}, expected one that can be a folder's")
    seeds = _take(entry, "seeds", list, seeds)
    differs = "; ".join(_told(entry)) or "nothing"
    found = []
    for seed in seeds:
        if type(seed) is not int:
            raise ValueError(f"a seed is {seed!r:.40}, expected a whole number")
        raw = read_toml(base, "The recipe", TrainingError)
        _change(raw, entry)
        found.append(Run(name, base.stem, differs, parse_recipe({**raw, "name": name, "seed": seed}, base)))
    return found


def _change(raw: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Puts a run's keys into a base recipe as TOML has it."""
    left = copy.deepcopy(dict(changes))
    tables = {name: take_table(left, name) for name in _TABLES}
    raw.update(left)
    for name in ("model", "augmentation"):
        raw[name] = {**raw.get(name, {}), **tables[name]}
    own = take_table(tables["stage"], "augmentation")
    for stage in raw.setdefault("stage", [{}]):
        stage.update(tables["stage"])
        for changed in (tables["augmentation"], own):  # a stage's own table must not hide what the run changes
            if changed and (changed is own or "augmentation" in stage):
                stage["augmentation"] = {**stage.get("augmentation", {}), **changed}


def _told(changes: Mapping[str, Any], prefix: str = "") -> list[str]:
    told: list[str] = []
    for key, value in changes.items():
        told += _told(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key} = {value}"]
    return told


def _take(raw: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    value = raw.pop(key, default)
    if type(value) is not kind:
        raise ValueError(f"{key} is {value!r:.40}, expected a {kind.__name__}")
    return value


def row_of(study: str, run: Run, fitted: Fitted, machine: str, date: str, private: float | None = None) -> Row:
    """Makes a run's row.

    Args:
        study: The study's name.
        run: What was done.
        fitted: What it led to.
        machine: CPU class or GPU.
        date: ISO.
        private: Accuracy on PrivateTest, a fraction, where it was asked for.
    """
    device = fitted.device
    values = {
        "study": study,
        "run": run.name,
        "recipe": run.base,
        "differs": run.differs,
        "seed": run.recipe.seed,
        "epochs": len(fitted.history),
        "parameters": fitted.model.count_params(),
        "seconds": round(sum(row["seconds"] for row in fitted.history)),
        "machine": machine,
        "framework": f"{device['framework']} {device['framework_version']}, {device['precision']}",
        "public_best": f"{fitted.best['public_accuracy']:.6f}",
        "best_epoch": fitted.best["epoch"],
        "public_last": f"{fitted.history[-1]['public_accuracy']:.6f}",
        "public_log_loss": f"{fitted.best['public_log_loss']:.6f}",
        "clean_accuracy": f"{fitted.best['clean_accuracy']:.6f}",
        "private": "" if private is None else f"{private:.6f}",
        "date": date,
        "settings_sha256": run.digest,
    }
    return {name: str(values[name]) for name in COLUMNS}


def find_row(rows: Sequence[Row], study: str, run: Run) -> Row | None:
    """Finds a run's row; None where it has none yet.

    Raises:
        TrainingError: There is one of that name and seed, of other settings.
    """
    for row in rows:
        if (row["study"], row["run"], row["seed"]) == (study, run.name, str(run.recipe.seed)):
            if row["settings_sha256"] not in ("", run.digest):
                raise TrainingError(
                    f"The table has a run {run.name!r} of {study} with seed {run.recipe.seed} and other settings "
                    f"({row['differs']}); give this one another name"
                )
            return row
    return None


def read_table(path: Path) -> list[Row]:
    """Reads the CSV table; empty where there is none.

    Raises:
        OutputError: It is no table of ours.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise OutputError(f"{path} has other columns than a table of studies: {', '.join(COLUMNS)}")
        return [{name: row[name] or "" for name in COLUMNS} for row in reader]


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Writes the CSV table and, beside it, the same for people as Markdown; each whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with written_whole(path.with_suffix(".md")) as partial:
        partial.write_text("\n".join(_markdown(rows)) + "\n", encoding="utf-8")


def _markdown(rows: Sequence[Row]) -> list[str]:
    lines = [
        "# What was tried",
        "",
        "Made by `train/study.py` from the CSV file beside it. PublicTest is that of the best epoch; PrivateTest is of",
        "finalists only. Minutes are the clock's, whatever else the machine did, pauses of the training included.",
    ]
    lines += ["", f"| {' | '.join(_SHOWN)} |", "|---|---|---|" + "---:|" * 3 + "---|" + "---:|" * 5]
    for row in rows:
        minutes = f"{float(row['seconds']) / 60:.0f}" if row["seconds"] else ""
        best, last, clean, private = (
            f"{100 * float(row[name]):.2f} %" if row[name] else ""
            for name in ("public_best", "public_last", "clean_accuracy", "private")
        )
        log_loss = f"{float(row['public_log_loss']):.4f}" if row["public_log_loss"] else ""
        at = f" (epoch {row['best_epoch']})" if row["best_epoch"] else ""
        shown = (row["study"], row["run"], f"{row['recipe']}: {row['differs']}".strip(": "), row["seed"], row["epochs"])
        cells = (*shown, minutes, row["machine"], best + at, last, log_loss, clean, private)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return lines
