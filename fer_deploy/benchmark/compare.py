"""Two results of ``fer-deploy bench`` side by side: which rows became faster or slower, and which by too much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fer_deploy.benchmark.results import Result
from fer_deploy.benchmark.stopwatch import LATENCY
from fer_deploy.errors import UsageError
from fer_deploy.verification.verifier import OK

MAX_REGRESSION = 10.0
"""Percent that a row may lose where nothing else is said."""


class Key(NamedTuple):
    """What two rows must have in common."""

    backend: str
    precision: str
    device: str
    graph: bool | None
    mode: str
    batch: int

    def __str__(self) -> str:
        graphs = "" if self.graph is not False else " without CUDA graphs"
        return f"{self.backend}/{self.precision} on {self.device}{graphs}, batch {self.batch}, {self.mode}"


@dataclass(frozen=True)
class Change:
    """One row in both results.

    Args:
        key: Which row.
        old: In the first: images/s, or in the mode ``latency`` the median latency in seconds.
        new: In the second.
    """

    key: Key
    old: float
    new: float

    @property
    def ratio(self) -> float:
        """How many times as fast as it was."""
        return self.old / self.new if self.key.mode == LATENCY else self.new / self.old

    @property
    def lost_percent(self) -> float:
        """Images/s lost or latency gained, in percent of what it was; negative where it became faster."""
        return 100 * ((self.new / self.old - 1) if self.key.mode == LATENCY else (1 - self.new / self.old))

    def __str__(self) -> str:
        return f"{self.key}: {self.figure(self.old)} before, {self.figure(self.new)} now"

    def figure(self, value: float) -> str:
        """Words a figure of this row."""
        return f"p50 {1e3 * value:.3f} ms" if self.key.mode == LATENCY else f"{value:,.0f} images/s"


@dataclass(frozen=True)
class Difference:
    """All rows of two results.

    Args:
        changes: Rows in both, in the order of the second.
        only_old: Rows of the first alone.
        only_new: Rows of the second alone.
        notes: What is not alike in how they were measured.
    """

    changes: tuple[Change, ...]
    only_old: tuple[Key, ...]
    only_new: tuple[Key, ...]
    notes: tuple[str, ...]

    def regressions(self, max_percent: float) -> list[str]:
        """Gives one line for each row that lost more than so many percent."""
        return [
            f"{change}: {change.lost_percent:.1f} % worse, at most {max_percent:g} % are allowed"
            for change in self.changes
            if change.lost_percent > max_percent
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``ratio`` is above 1 where the second is faster."""
        return {
            "rows": [
                {**change.key._asdict(), "old": change.old, "new": change.new, "ratio": change.ratio}
                for change in self.changes
            ],
            "only_old": [key._asdict() for key in self.only_old],
            "only_new": [key._asdict() for key in self.only_new],
            "notes": list(self.notes),
        }


def difference(old: Result, new: Result) -> Difference:
    """Compares what ran in both results.

    Args:
        old: As ``load_result`` or ``as_result`` gives it.
        new: Likewise.

    Raises:
        UsageError: They are of different CPU classes or GPUs, or have no row in common.
    """
    before, after = _by_key(old), _by_key(new)
    common = [key for key in after if key in before]
    for key in common:
        _check_machine(old, before[key]["machine"], after[key]["machine"])
    if not common:
        raise UsageError(f"{_name(old)} and {_name(new)} have no row in common that ran in both")
    changes = tuple(Change(key, _figure(before[key]), _figure(after[key])) for key in common)
    only_old = tuple(key for key in before if key not in after)
    only_new = tuple(key for key in after if key not in before)
    return Difference(changes, only_old, only_new, tuple(_notes(old, new)))


def check_baseline(old: Result, cpu_class: str) -> None:
    """Makes sure, before anything is measured, that a result can be compared with what this CPU will give.

    Raises:
        UsageError: It was measured on another class of CPU.
    """
    for row in old["rows"]:
        if row.get("status") == OK and row["device"] == "cpu":
            _check_machine(old, row["machine"], cpu_class)


def _check_machine(old: Result, there: str, here: str) -> None:
    if there != here:
        raise UsageError(
            f"{_name(old)} was measured on {there}, and this is {here}: figures of different CPU classes or GPUs "
            "cannot be compared. Measure both on one machine with: fer-deploy bench --output"
        )


def _name(result: Mapping[str, Any]) -> str:
    return str(result.get("path", "this run"))


def _by_key(result: Result) -> dict[Key, dict[str, Any]]:
    rows: Sequence[dict[str, Any]] = [row for row in result["rows"] if row.get("status") == OK]
    return {Key(*(row.get(name) for name in Key._fields)): row for row in rows}  # type: ignore[arg-type]


def _figure(row: Mapping[str, Any]) -> float:
    return float(row["latency_p50_s"] if row["mode"] == LATENCY else row["images_per_s"])


def _notes(old: Result, new: Result) -> list[str]:
    """Tells what differs beside the figures and may be why they do."""
    notes = []
    before, after = (result.get("bundle", {}) for result in (old, new))
    if before.get("source_sha256") != after.get("source_sha256"):
        notes.append(f"these are two models: the bundle was {before.get('name')} and is {after.get('name')}")
    for place, names in (("machine", ("cpu", "usable_cpus")), ("settings", ("threads", "duration_s"))):
        for name in names:
            pair = [result.get(place, {}).get(name) for result in (old, new)]
            if pair[0] != pair[1]:
                notes.append(f"{name} was {pair[0]} and is {pair[1]}")
    return notes
