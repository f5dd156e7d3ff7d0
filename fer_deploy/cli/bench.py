"""``fer-deploy bench``: how fast every form of a model is on this machine, side by side."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_deploy.cli.options import BundleArgument, JsonOption, ThreadsOption
from fer_deploy.cli.progress import stages
from fer_deploy.errors import UsageError
from fer_deploy.system.files import check_writable, written_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_deploy.benchmark.results import Result, SpeedRow
    from fer_deploy.bundle.manifest import Bundle
    from fer_deploy.verification.variants import Selection


BATCHES = "1,8,64,256"


class Mode(StrEnum):
    """What is measured."""

    latency = "latency"
    throughput = "throughput"
    both = "both"


def bench(
    bundle: BundleArgument = "default",
    backend: Annotated[str, typer.Option("--backend", help="all, or names with commas between; null is one.")] = "all",
    precision: Annotated[str, typer.Option("--precision", help="all, or names with commas between.")] = "all",
    batch: Annotated[str, typer.Option("--batch", help="Batch sizes with commas between.")] = BATCHES,
    mode: Annotated[Mode, typer.Option("--mode", help="Single calls, a stream, or both.")] = Mode.both,
    duration: Annotated[float, typer.Option("--duration", min=0.01, help="Seconds for each row.")] = 5.0,
    require: Annotated[str, typer.Option("--require", help="Forms that must run: openvino/int8,trt/fp16,...")] = "",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, ...")] = "auto",
    threads: ThreadsOption = None,
    output: Annotated[Path | None, typer.Option("--output", help="A file for the JSON, raw samples included.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="A .png, .svg or .pdf: accuracy against throughput.")
    ] = None,
    baseline: Annotated[Path | None, typer.Option("--baseline", help="An earlier --output to hold this to.")] = None,
    max_regression: Annotated[
        float | None, typer.Option("--max-regression", min=0, help="Percent that a row may lose; 10.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option("--compare", help="Measure nothing: compare two outputs, OLD NEW.")
    ] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Find and remember the fastest streams, threads and batch size.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure how fast every backend, precision and batch size is here, side by side.

    Latency is that of one call after the other; throughput is that of a stream
    that keeps the runtime's streams busy. All forms are warmed up until they have
    settled and then take turns, so that what disturbs the machine falls on all
    alike. The pictures are built in. What cannot run here is told with the reason;
    'null' computes nothing and shows what measuring itself costs.

    Exit code 1: a form failed, one that --require names did not run, or a row
    lost more than --max-regression percent; 2: a backend that --backend names
    or the --device cannot run here, or the results are of different kinds of CPU.

    Examples:

      fer-deploy bench

      fer-deploy bench bundle/ --backend openvino,onnx --precision int8 --batch 64 --output new.json

      fer-deploy bench --baseline old.json --max-regression 10

      fer-deploy bench --compare old.json new.json

      fer-deploy bench --tune
    """
    if tune:
        from fer_deploy.cli.tune import tune as run_tune

        given: dict[str, object] = {"batch": batch if batch != BATCHES else None, "require": require or None}
        given |= {"mode": mode if mode is not Mode.both else None, "threads": threads, "max-regression": max_regression}
        _refuse("--tune", output=output, plot=plot, baseline=baseline, compare=compare, **given)
        run_tune(bundle, backend, precision, device, duration, as_json)
        return
    from fer_deploy.benchmark.compare import MAX_REGRESSION, check_baseline
    from fer_deploy.benchmark.results import as_result, dump, load_result

    if compare is not None:
        _refuse("--compare", output=output, plot=plot, baseline=baseline, require=require or None)
        _compare(load_result(compare[0]), load_result(compare[1]), max_regression, as_json)
        return
    if max_regression is not None and baseline is None:
        raise UsageError("--max-regression needs --baseline or --compare")
    from fer_deploy.benchmark.results import BenchSettings
    from fer_deploy.benchmark.runner import bench as run
    from fer_deploy.bundle.manifest import Bundle
    from fer_deploy.cli.tables import print_bench
    from fer_deploy.system.machine import machine_info
    from fer_deploy.verification.variants import NULL, select

    loaded = Bundle.load(bundle)
    selection = select(backend, precision, require, extra=(NULL,))
    old = load_result(baseline) if baseline else None
    if old:
        check_baseline(old, machine_info()["cpu_class"])
    if output:
        check_writable(output, overwrite=True)
    batches = _batches(batch) + (_tuned_batches(loaded, selection, device) if batch == BATCHES else ())
    if plot:
        from fer_deploy.benchmark.plot import check_plot, draw_plot

        check_plot(plot, loaded, selection)
    with stages() as progress:
        settings = BenchSettings(batches, _modes(mode), duration, device, threads, progress)
        rows = run(loaded, selection, settings)
    result = as_result(loaded, rows, settings)
    if output:
        _write(output, dump(result))
    if as_json:
        print(dump(result))
    else:
        print_bench(loaded.name, rows, settings)
    if plot:
        draw_plot(rows, plot, loaded.name)
    failures = _failures(selection, rows)
    if old:
        failures += _regressions(old, result, MAX_REGRESSION if max_regression is None else max_regression)
    _conclude(failures, as_json)


def _batches(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isascii() and word.isdigit() and 0 < int(word) <= 1 << 16 for word in words):
        raise UsageError(f"--batch is {text!r}, expected numbers from 1 to 65536 with commas between, as 1,8,64")
    return tuple(map(int, words))


def _tuned_batches(bundle: Bundle, selection: Selection, device: str) -> tuple[int, ...]:
    """Lists the batch sizes that --tune found for the selected forms on this machine."""
    from fer_deploy.backends.registry import BACKENDS, backend_class
    from fer_deploy.backends.select import AUTO, BackendChoice, tuned_settings

    variants = [
        (variant, backend_class(variant.backend)) for variant in selection.variants if variant.backend in BACKENDS
    ]
    choices = [BackendChoice(*variant, kind.devices[0] if device == AUTO else device) for variant, kind in variants]
    return tuple(batch for choice in choices if (batch := tuned_settings(bundle, choice).batch))


def _modes(mode: Mode) -> tuple[str, ...]:
    return ("latency", "throughput") if mode is Mode.both else (mode.value,)


def _write(output: Path, text: str) -> None:
    with written_whole(output) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def _failures(selection: Selection, rows: Sequence[SpeedRow]) -> list[str]:
    """Gives a line for each form that should have run and did not."""
    failures = [f"{row.variant}: {row.reason}" for row in rows if row.status == "failed"]
    for row in rows:
        if row.status == "skipped" and row.variant in selection.required:
            failures.append(f"{row.variant} is required and did not run: {row.reason}")
    return failures


def _regressions(old: Result, new: Result, max_percent: float) -> list[str]:
    """Holds a run to an earlier one; what cannot be compared is told on stderr."""
    from fer_deploy.benchmark.compare import difference

    found = difference(old, new)
    missing = [f"not compared, since it did not run: {key}" for key in found.only_old]
    for line in (*found.notes, *missing):
        print(line, file=sys.stderr)
    return found.regressions(max_percent)


def _refuse(by: str, **given: object) -> None:
    wrong = [f"--{name}" for name, value in given.items() if value is not None]
    why = {"--compare": "which measures nothing", "--tune": "which tries them itself or tells no such result"}[by]
    if wrong:
        raise UsageError(f"{', '.join(wrong)}: not with {by}, {why}")


def _compare(old: Result, new: Result, max_regression: float | None, as_json: bool) -> None:
    from fer_deploy.benchmark.compare import difference
    from fer_deploy.cli.tables import print_difference
    from fer_deploy.system.machine import machine_info

    found = difference(old, new)
    failures = [] if max_regression is None else found.regressions(max_regression)
    if as_json:
        print(json.dumps({"schema": 1, "machine": machine_info(), **found.as_dict()}, indent=2, allow_nan=False))
    else:
        print_difference(found)
    _conclude(failures, as_json)


def _conclude(failures: Sequence[str], as_json: bool) -> None:
    for line in failures:
        print(f"FAILED {line}", file=sys.stderr if as_json else sys.stdout)
    if failures:
        raise typer.Exit(1)
