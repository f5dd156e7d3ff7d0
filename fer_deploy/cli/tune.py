"""``fer-deploy bench --tune``: finds the fastest settings, tells them and remembers them."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from fer_deploy.cli.progress import stages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_deploy.backends.select import BackendChoice
    from fer_deploy.benchmark.tuner import Candidate, Tuning
    from fer_deploy.bundle.manifest import Bundle

_LISTED = 8


def tune(bundle: str, backend: str, precision: str, device: str, duration_s: float, as_json: bool) -> None:
    """Tunes each form that is named; what is left open is as ``auto`` takes it.

    Args:
        bundle: Its folder or name.
        backend: ``all`` for what ``auto`` takes, or names with commas between.
        precision: The same.
        device: ``auto``, ``cpu``, ``cuda``, ...
        duration_s: Ten turns of a candidate.
        as_json: Whether one JSON object is printed instead of tables.

    Raises:
        UnavailableError: A form cannot run here.
    """
    from fer_deploy.benchmark.tuner import tune as run
    from fer_deploy.bundle.manifest import Bundle
    from fer_deploy.bundle.store import keep_tuned
    from fer_deploy.system.machine import machine_info
    from fer_deploy.verification.variants import ModelVariant

    loaded = Bundle.load(bundle)
    found = []
    with stages() as progress:
        for choice in _choices(loaded, backend, precision, device):
            variant = ModelVariant(choice.backend, choice.precision)
            found.append(run(loaded, variant, choice.device, duration_s / 10, progress))
    where = keep_tuned(loaded, [tuning.tuned for tuning in found])
    if as_json:
        about = {"path": loaded.address, "name": loaded.name, "source_sha256": loaded.source_sha256}
        rows = [row for tuning in found for row in _rows(tuning)]
        whole = {"schema": 1, "machine": machine_info(), "bundle": about, "rows": rows, "recorded": str(where)}
        print(json.dumps(whole, indent=2, allow_nan=False))
    else:
        for tuning in found:
            _print(tuning)
    print(f"Recorded in {where}", file=sys.stderr)


def _choices(bundle: Bundle, backends: str, precisions: str, device: str) -> Sequence[BackendChoice]:
    from fer_deploy.backends.select import AUTO, choose
    from fer_deploy.verification.variants import ALL, select

    select(backends, precisions)  # refuses names that there are not
    lists = ([AUTO if word == ALL else word.strip() for word in text.split(",")] for text in (backends, precisions))
    names, kinds = lists
    return list(dict.fromkeys(choose(bundle, name, kind, device) for name in names for kind in kinds))


def _rows(tuning: Tuning) -> list[dict[str, Any]]:
    variant = {name: getattr(tuning.tuned, name) for name in ("backend", "precision", "device", "runtime", "machine")}
    return [
        {
            **variant,
            "mode": "throughput",
            **each.settings._asdict(),
            "images_per_s": each.images_per_s,
            "ratio_to_default": each.ratio,
            "rounds": len(each.rates),
            "chosen": _is_chosen(tuning, each),
            "status": "ok",
        }
        for each in tuning.candidates
    ]


def _is_chosen(tuning: Tuning, each: Candidate) -> bool:
    tuned, (threads, streams, batch) = tuning.tuned, each.settings
    return (tuned.threads, tuned.streams, tuned.batch) == (threads or 0, streams or 0, batch)


def _print(tuning: Tuning) -> None:
    from rich.console import Console
    from rich.table import Table

    tuned = tuning.tuned
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("batch", "streams", "threads", "images/s", "x default", "rounds"):
        table.add_column(column, justify="right")
    table.add_column("")
    for number, each in enumerate(tuning.candidates):
        chosen = _is_chosen(tuning, each)
        if number < _LISTED or chosen:
            counts = (str(count or "runtime's") for count in (each.settings.streams, each.settings.threads))
            figures = (f"{each.images_per_s:,.0f}", f"{each.ratio:.3f}", str(len(each.rates)))
            style = "bold green" if chosen else None
            table.add_row(str(each.settings.batch), *counts, *figures, "chosen" if chosen else "", style=style)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    more = len(tuning.candidates) - _LISTED
    gained = f"{tuned.gain:.2f} times as fast as untuned" if tuned.gain != 1 else "the same as untuned"
    console.print(
        f"{tuned.backend} {tuned.precision} on {tuned.device}, {tuned.machine}, {tuned.cores} cores: "
        f"batch {tuned.batch}, {gained}{f'; {more} slower ones not listed' if more > 0 else ''}",
        markup=False,
    )
