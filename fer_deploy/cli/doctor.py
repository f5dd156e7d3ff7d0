"""``fer-deploy doctor``: what can run here, and what is missing for the rest."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_deploy.cli.options import BundleArgument, JsonOption, ThreadsOption
from fer_deploy.cli.progress import steps

if TYPE_CHECKING:
    from rich.table import Table

    from fer_deploy.bundle.manifest import Bundle
    from fer_deploy.verification.checkup import Checkup, TrialResult

_NO_VNNI = ("avx512", "avx2", "other")


def doctor(
    bundle: BundleArgument = "default",
    require: Annotated[
        str, typer.Option("--require", help="What must run, as backend or backend/precision with commas between.")
    ] = "",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    option: Annotated[str | None, typer.Option("--bundle", hidden=True)] = None,  # as infer has it
) -> None:
    """Tell which backends can run here, on which device, and why the others cannot.

    Every backend is really opened, on each of its devices and with each precision
    that the bundle has, each in a process of its own with a time limit: a runtime
    that crashes is a row. All run a set of drawn pictures and are compared with
    Keras's answers to it; accuracy is measured by 'fer-deploy verify'.

    Exit code 1 if something that --require names does not run.

    Examples:

      fer-deploy doctor

      fer-deploy doctor --require openvino/int8,trt

      fer-deploy doctor bundle/ --json > doctor.json
    """
    from fer_deploy.bundle.manifest import Bundle
    from fer_deploy.verification.checkup import check_up, parse_wanted

    wanted = parse_wanted(require)
    loaded = Bundle.load(option or bundle)
    with steps() as report:
        found = check_up(loaded, report, threads)
    lacking = found.lacking(wanted)
    if as_json:
        print(json.dumps({**found.as_json(), "detectors": _detectors(), "missing": lacking}, indent=2))
    else:
        _print(found, loaded)
    for line in lacking:
        print(f"fer-deploy: {line}", file=sys.stderr)
    if lacking:
        raise typer.Exit(1)


def _print(found: Checkup, bundle: Bundle) -> None:
    from rich.console import Console

    from fer_deploy.inference.run import printable

    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"CPU     {_cpu(found.machine)}")
    for line in _gpus(found.machine):
        console.print(f"GPU     {line}")
    files = ", ".join(f"{a.format} {a.precision}{' ' + a.target if a.target else ''}" for a in bundle.artefacts)
    for name, reason in _detectors().items():
        console.print(f"Faces   {name}: {printable(reason) or 'is there'}")
    console.print(f"Bundle  {printable(bundle.name)} ({printable(str(bundle.path))}): {files}\n")
    console.print(_table(found))
    console.print()
    for checked in found.checked:
        if checked.reason:
            tried = checked.tried
            variant = " ".join(filter(None, (tried.backend, tried.device, tried.precision)))
            console.print(f"{variant}: {printable(checked.reason)}")
    choice = found.decision.choice
    console.print(f"auto takes {choice.backend} {choice.precision} on {choice.device}: {found.decision.reason}")
    console.print(f"with {found.settings}")
    console.print(_self_test(found))


def _detectors() -> dict[str, str]:
    """Gives for each detector of faces why it is not there; nothing if it is."""
    from fer_deploy.errors import FerDeployError
    from fer_deploy.faces.catalogue import NAMES, choose

    found = {}
    for name in NAMES[1:]:
        try:
            choose(name)
            found[name] = ""
        except FerDeployError as error:
            found[name] = str(error)
    return found


def _cpu(machine: dict[str, Any]) -> str:
    instructions = ", ".join(machine["instructions"]) or "none that matter here"
    note = "; no VNNI: int8 is right if the weights leave room for sums in 16 bits, as export makes them"
    return (
        f"{machine['cpu'] or 'unknown'}, {machine['usable_cores']} usable cores, class {machine['cpu_class']} "
        f"({instructions}){note if machine['cpu_class'] in _NO_VNNI else ''}"
    )


def _gpus(machine: dict[str, Any]) -> list[str]:
    driver = f"driver {machine['driver'] or 'of unknown version'}, CUDA {machine['cuda']}"
    gpus = [f"{gpu['name']}, {gpu['target']}, {gpu['memory_gib']} GiB; {driver}" for gpu in machine["gpus"]]
    return gpus or [f"none: {machine['gpu_reason']}"]


def _table(found: Checkup) -> Table:
    from rich.table import Table

    columns = ("backend", "version", "device", "precision", "runs")
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for column in ("same top-1", "differs by"):
        table.add_column(column, justify="right")
    for checked in found.checked:
        tried, comparison = checked.tried, checked.comparison
        yes = "simulated" if tried.simulated else "yes"
        runs = {"ok": yes, "failed": "FAILED", "skipped": "no"}[checked.status]
        table.add_row(
            tried.backend,
            tried.version or "-",
            tried.device or "-",
            _precision(tried),
            f"{runs}, auto" if found.is_auto(tried) else runs,
            f"{comparison.agreement:.1%}" if comparison else "-",
            f"{comparison.max_abs_difference:.1e}" if comparison else "-",
            style={"failed": "red", "skipped": "dim"}.get(checked.status),
        )
    return table


def _precision(tried: TrialResult) -> str:
    if tried.precision is None:
        return "-"
    computed = (
        ""
        if tried.effective in (None, tried.precision, tried.precision.removesuffix("-trt"))
        else f" in {tried.effective}"
    )
    return tried.precision + computed


def _self_test(found: Checkup) -> str:
    if found.reference is None:
        return f"No self-test: {found.reference_reason}"
    beside = {"recorded": "Keras's recorded answers", "keras": "Keras"}[found.reference]
    return (
        f"Self-test: {found.images} drawn pictures beside {beside}; no accuracy was measured, "
        "fer-deploy verify does that"
    )
