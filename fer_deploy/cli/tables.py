"""The tables of ``fer-deploy verify`` and ``bench``: at most 100 columns wide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_deploy.labels import LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from fer_deploy.benchmark.compare import Difference
    from fer_deploy.benchmark.results import BenchSettings, SpeedRow
    from fer_deploy.bundle.manifest import Bundle
    from fer_deploy.verification.verifier import Verification, VerificationRow

WIDTH: Final = 100
_BAD: Final = "bold red"
_GRAPH: Final = {True: " graph", False: " no graph", None: ""}


def print_verification(bundle: Bundle, outcome: Verification, source: str) -> None:
    """Prints the outcome on stdout: the forms, their accuracy by class, the gate, what was skipped."""
    from rich.console import Console

    from fer_deploy.system.machine import machine_info
    from fer_deploy.verification.verification_report import gate_lines, outcome_line, reference_line, skipped_lines

    console = Console(highlight=False)
    if not console.is_terminal or console.width > WIDTH:
        console.width = WIDTH
    machine = machine_info()
    with_labels = any(row.accuracy is not None for row in outcome.rows)
    console.print(_variants(outcome, with_labels))
    if with_labels:
        console.print(_classes(outcome))
    reported = [
        f"{bundle.name}: {outcome.n:,} pictures of {outcome.split} ({source})",
        f"CPU class {machine['cpu_class']} ({machine['cpu'] or 'unknown processor'})",
        reference_line(outcome),
        *outcome.reference.notes,
        *gate_lines(outcome),
        *skipped_lines(outcome),
    ]
    for line in reported:
        console.print(line, markup=False, soft_wrap=True, style="dim")
    console.print(outcome_line(outcome), markup=False, style="bold green" if outcome.passed else _BAD)


def _variants(outcome: Verification, with_labels: bool) -> Table:
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


def _figures(row: VerificationRow, with_labels: bool) -> list[str]:
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


def _status(row: VerificationRow) -> Text:
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
            table.add_row(str(row.variant), *("" if share is None else f"{share:.1%}" for share in shares))
    return table


def print_bench(name: str, rows: Sequence[SpeedRow], settings: BenchSettings) -> None:
    """Prints on stdout: a line per form and batch size, one per form, what was skipped, and how it was measured."""
    console = _console()
    if any(row.status == "ok" for row in rows):
        console.print(_speeds(rows))
        console.print()
        console.print(_starts(rows))
    for line in _reported(name, rows, settings):
        console.print(line, markup=False, soft_wrap=True, style="dim")


def print_difference(found: Difference) -> None:
    """Prints on stdout: a line for each row in both results, and what is in one of them only."""
    table = _bench_table("backend", "precision", "device", "mode")
    for column in ("batch", "before", "now", "ratio"):
        table.add_column(column, justify="right")
    for change in found.changes:
        key = change.key
        precision = key.precision + ("" if key.graph is not False else ", no graph")
        figures = (change.figure(change.old), change.figure(change.new), f"{change.ratio:.3f}")
        style = "green" if change.ratio > 1 else None
        table.add_row(key.backend, precision, key.device, key.mode, str(key.batch), *figures, style=style)
    console = _console()
    console.print(table)
    reported = ["A ratio above 1 is faster", *found.notes]
    reported += [f"only before: {key}" for key in found.only_old] + [f"only now: {key}" for key in found.only_new]
    for line in reported:
        console.print(line, markup=False, soft_wrap=True, style="dim")


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal or console.width > WIDTH:
        console.width = WIDTH
    return console


def _bench_table(*columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")


def _speeds(rows: Sequence[SpeedRow]) -> Table:
    """Makes a line per form and batch size: latency of single calls, throughput, speed-up, accuracy."""
    from fer_deploy.benchmark.results import fastest, quickest, speed_ups

    table = _bench_table("backend", "precision")
    columns = ("batch", "p50 ms", "p90 ms", "p99 ms", "images/s", "streams", "x Keras", "x ORT", "accuracy")
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column("")
    best, soonest = fastest(rows), quickest(rows)
    for pair in _pairs(rows):
        latency = next((row for row in pair if row.mode == "latency"), None)
        row = next((row for row in pair if row.mode == "throughput"), pair[0])
        marks = [text for text, which in (("fastest", best), ("lowest p50", soonest)) if which in pair]
        figures = (latency.latency_p50_s, latency.latency_p90_s, latency.latency_p99_s) if latency else (None,) * 3
        table.add_row(
            row.backend,
            _precision(row),
            str(row.batch),
            *("" if value is None else _milliseconds(value) for value in figures),
            f"{row.images_per_s:,.0f}",
            _streams(row),
            *("" if ratio is None else f"{ratio:.2f}" for ratio in speed_ups(rows, row)),
            _accuracy(row),
            ", ".join(marks),
            style="bold green" if best in pair else "bold" if marks else None,
        )
    return table


def _pairs(rows: Sequence[SpeedRow]) -> list[list[SpeedRow]]:
    """Puts the rows of the two modes together."""
    pairs: dict[tuple[object, ...], list[SpeedRow]] = {}
    for row in rows:
        if row.status == "ok":
            pairs.setdefault((*row.variant, row.device, row.graph, row.batch), []).append(row)
    return list(pairs.values())


def _starts(rows: Sequence[SpeedRow]) -> Table:
    """Makes a line per form: what it takes to start, and memory."""
    table = _bench_table("backend", "precision")
    for column in ("import s", "compile s", "load s", "first start s", "cold start s", "peak MiB"):
        table.add_column(column, justify="right")
    variants = {(*row.variant, row.device, row.graph): row for row in rows if row.status == "ok"}
    for row in variants.values():
        seconds = (row.import_s, row.compile_s, row.load_s, row.first_start_s, row.cold_start_s)
        memory = "" if row.peak_memory_mib is None else f"{row.peak_memory_mib:,.0f}"
        table.add_row(row.backend, _precision(row), *(f"{value or 0:.3f}" for value in seconds), memory)
    return table


def _precision(row: SpeedRow) -> str:
    computed = "" if row.effective in (row.precision, row.precision.removesuffix("-trt"), "nothing") else row.effective
    return f"{row.precision}{f' in {computed}' if computed else ''}{_GRAPH[row.graph]}"


def _streams(row: SpeedRow) -> str:
    """Words streams and threads, as in 2x1: two streams with a thread each."""
    if row.threads is None:
        return ""
    streams = row.streams or 1
    return f"{streams}x{row.threads / streams:.3g}"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3f}" if seconds < 1 else f"{1e3 * seconds:,.0f}"


def _accuracy(row: SpeedRow) -> str:
    """Words an accuracy; one that was recorded on another kind of machine is marked."""
    if row.accuracy is None:
        return ""
    return f"{'~' if row.accuracy_machine != row.machine else ''}{row.accuracy:.2%}"


def _reported(name: str, rows: Sequence[SpeedRow], settings: BenchSettings) -> list[str]:
    """Tells what the figures are of."""
    from fer_deploy.system.machine import machine_info

    machine = machine_info()
    cpu = machine["cpu"] or "unknown processor"
    ran = [row for row in rows if row.status == "ok"]
    reported = [
        f"{name}: CPU class {machine['cpu_class']} ({cpu}, {machine['usable_cpus']} CPUs), "
        f"{settings.duration_s:g} s per row in {settings.rounds} interleaved turns, drawn pictures",
    ]
    if any(row.backend in ("keras", "onnx") for row in ran):
        reported.append("x Keras, x ORT: against Keras and ONNX Runtime fp32, each at its best batch")
    alone = [
        f"{row.precision}{_GRAPH[row.graph]} batch {row.batch} {_milliseconds(row.device_p50_s)} ms"
        for row in ran
        if row.device_p50_s is not None
    ]
    if alone:
        reported.append(f"p50 is from host memory to host memory; the GPU alone: {', '.join(alone)}")
    if splits := sorted({row.accuracy_split for row in ran if row.accuracy_split}):
        reported.append(f"accuracy: as verify recorded it on {', '.join(splits)}")
    if others := sorted({row.accuracy_machine or "" for row in ran if row.accuracy_machine not in (None, row.machine)}):
        reported.append(f"~ recorded on {', '.join(others)}: verify --record tells it for this machine")
    if restless := [f"{row.variant} batch {row.batch} {row.mode}" for row in ran if not row.settled]:
        more = f" and {len(restless) - 3} more" if len(restless) > 3 else ""
        reported.append(
            f"not settled when the warm-up was over: {'; '.join(restless[:3])}{more}; give a longer --duration"
        )
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.status == "skipped":
            reasons.setdefault(row.reason or "", []).append(str(row.variant))
    return reported + [f"skipped {', '.join(variants)}: {reason}" for reason, variants in reasons.items()]
