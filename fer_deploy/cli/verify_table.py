"""The tables of ``fer-deploy verify``: at most 100 columns wide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_deploy.labels import LABELS

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from fer_deploy.bundle import Bundle
    from fer_deploy.evaluation.rows import Row
    from fer_deploy.evaluation.verification import Verification

WIDTH: Final = 100
_BAD: Final = "bold red"


def print_tables(bundle: Bundle, outcome: Verification, source: str) -> None:
    """Prints the outcome on stdout: the forms, their accuracy by class, the gate, what was skipped."""
    from rich.console import Console

    from fer_deploy.evaluation.wording import gate_lines, ground_line, outcome_line, skipped_lines
    from fer_deploy.machine import machine_info

    console = Console(highlight=False)
    if not console.is_terminal or console.width > WIDTH:
        console.width = WIDTH
    machine = machine_info()
    with_labels = any(row.accuracy is not None for row in outcome.rows)
    console.print(_forms(outcome, with_labels))
    if with_labels:
        console.print(_classes(outcome))
    told = [
        f"{bundle.name}: {outcome.n:,} pictures of {outcome.split} ({source})",
        f"CPU class {machine['cpu_class']} ({machine['cpu'] or 'unknown processor'})",
        ground_line(outcome),
        *outcome.ground.notes,
        *gate_lines(outcome),
        *skipped_lines(outcome),
    ]
    for line in told:
        console.print(line, markup=False, soft_wrap=True, style="dim")
    console.print(outcome_line(outcome), markup=False, style="bold green" if outcome.passed else _BAD)


def _forms(outcome: Verification, with_labels: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("backend", "precision", "in", box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    figures = ["accuracy", "95 %", "drift", "p"] if with_labels else []
    for column in (*figures, "same", "mean diff", "worst", "images/s"):
        table.add_column(column, justify="right")
    table.add_column("")
    for row in outcome.rows:
        if row.agreement is None:
            if row.status == "failed":  # it did not load or gave no answers
                table.add_row(row.backend, row.precision, *[""] * (len(table.columns) - 3), Text("FAILED", _BAD))
            continue
        table.add_row(row.backend, row.precision, row.effective, *_figures(row, with_labels), _status(row))
    return table


def _figures(row: Row, with_labels: bool) -> list[str]:
    close = [
        f"{row.agreement:.2%}",
        f"{row.mean_abs_difference:.1e}",
        f"{row.max_abs_difference:.1e}",
        "simulated" if row.images_per_s is None else f"{row.images_per_s:,.0f}",
    ]
    if not with_labels or row.interval is None:
        return close
    low, high = row.interval
    return [
        f"{row.accuracy:.2%}",
        f"{100 * low:.1f}-{100 * high:.1f}",
        f"{row.drift_points:+.2f}",
        f"{row.drift_p:.2f}",
        *close,
    ]


def _status(row: Row) -> Text:
    from rich.text import Text

    if row.status == "failed":
        return Text("FAILED", _BAD)
    return Text("ok", "green")


def _classes(outcome: Verification) -> Table:
    from rich.table import Table

    table = Table("right, by class", box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for label in LABELS:
        table.add_column(label, justify="right")
    for row in outcome.rows:
        if row.class_accuracy is not None:
            shares = (row.class_accuracy.get(label) for label in LABELS)
            table.add_row(str(row.form), *("" if share is None else f"{share:.1%}" for share in shares))
    return table
