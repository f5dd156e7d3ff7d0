"""Draws accuracy against throughput: one point per form at its best batch size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fer_deploy.benchmark.results import SpeedRow
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.bundle.store import recorded
from fer_deploy.errors import UsageError
from fer_deploy.system.figures import new_figure
from fer_deploy.system.files import check_writable, written_whole
from fer_deploy.system.machine import machine_info
from fer_deploy.verification.variants import Selection
from fer_deploy.verification.verifier import OK

FORMATS: Final = (".png", ".svg", ".pdf")
_WHAT: Final = "a plot of accuracy against throughput"
_ROOM_POINTS: Final = 0.5
"""Above and below, so that a difference of a few pictures does not look like one that matters."""
_NO_ACCURACY: Final = "No accuracy is recorded of what is measured; record it with: fer-deploy verify --record"


def check_plot(path: Path, bundle: Bundle, selection: Selection) -> None:
    """Makes sure, before anything is measured, that there will be a plot.

    Raises:
        UsageError: The file has another kind of name, or no form's accuracy is recorded.
        MissingDependencyError: Matplotlib is not installed.
        OutputError: Its folder is missing, or it is a folder itself.
    """
    if path.suffix not in FORMATS:
        raise UsageError(f"{path}: a plot's name ends in {', '.join(FORMATS)}")
    new_figure(1, 1, _WHAT)
    check_writable(path, overwrite=True)
    known = {(record.backend, record.precision) for record in recorded(bundle) if not record.simulated}
    if not known & set(map(tuple, selection.variants)):
        raise UsageError(_NO_ACCURACY)


def points(rows: Sequence[SpeedRow]) -> list[SpeedRow]:
    """Takes each form's fastest row of those whose accuracy is known, fastest form first."""
    best: dict[tuple[str, str, str | None], SpeedRow] = {}
    for row in sorted(rows, key=lambda row: -(row.images_per_s or 0)):
        if row.status == OK and row.accuracy is not None:
            best.setdefault((*row.variant, row.device), row)
    return list(best.values())


def front(ordered: Sequence[SpeedRow]) -> list[SpeedRow]:
    """Takes, of points with the fastest first, those that no faster one equals in accuracy (Pareto)."""
    found: list[SpeedRow] = []
    for row in ordered:
        if not found or (row.accuracy or 0) > (found[-1].accuracy or 0):
            found.append(row)
    return found


def draw_plot(rows: Sequence[SpeedRow], path: Path, title: str) -> None:
    """Draws the points, a colour per backend, and the line of those that nothing beats in both.

    Args:
        rows: Of one run.
        path: A file with one of ``FORMATS``.
        title: What was measured.

    Raises:
        UsageError: No accuracy of what ran is recorded.
        OutputError: The file cannot be written.
    """
    ordered = points(rows)
    if not ordered:
        raise UsageError(_NO_ACCURACY)
    figure = new_figure(8, 5, _WHAT)
    axes = figure.subplots()
    for backend in dict.fromkeys(row.backend for row in ordered):
        ours = [row for row in ordered if row.backend == backend]
        axes.scatter([r.images_per_s or 0 for r in ours], [100 * (r.accuracy or 0) for r in ours], label=backend)
    for row in ordered:  # forms of the same accuracy stand in one line: labels at a slant don't cover each other
        at = (row.images_per_s or 0, 100 * (row.accuracy or 0))
        text = f"{row.precision}, batch {row.batch}"
        axes.annotate(text, at, xytext=(1, 5), textcoords="offset points", rotation=45, fontsize=8)
    best = front(ordered)
    axes.plot([r.images_per_s for r in best], [100 * (r.accuracy or 0) for r in best], ":", color="gray", zorder=0)
    splits = ", ".join(sorted({row.accuracy_split or "" for row in ordered}))
    axes.set_xscale("log")
    axes.margins(0.15, 0.1)
    low, high = min(100 * (r.accuracy or 0) for r in ordered), max(100 * (r.accuracy or 0) for r in ordered)
    axes.set_ylim(low - _ROOM_POINTS, high + _ROOM_POINTS)
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(lambda value, place: f"{value:,.0f}")
    axes.set(xlabel="images/s (best batch size)", ylabel=f"top-1 accuracy on {splits}, %")
    axes.set_title(f"{title}, CPU class {machine_info()['cpu_class']}")
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="best")
    with written_whole(path) as partial:
        figure.savefig(partial, dpi=110, format=path.suffix[1:])
