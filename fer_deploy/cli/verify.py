"""``fer-deploy verify``: proves on real pictures that no form of a model lost accuracy."""

from __future__ import annotations

import json
import math
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_deploy.cli.options import BundleArgument, JsonOption, ThreadsOption, TtaOption
from fer_deploy.cli.progress import progress_bar, stages
from fer_deploy.errors import UsageError

if TYPE_CHECKING:
    from fer_deploy.bundle.manifest import Bundle
    from fer_deploy.data.fer2013 import Partition
    from fer_deploy.verification.tolerances import Gate
    from fer_deploy.verification.verifier import Verification


class Split(StrEnum):
    """Which pictures."""

    private = "private"
    public = "public"
    test = "test"


_PARTITION = {Split.private: "PrivateTest", Split.public: "PublicTest", Split.test: "Test"}


def verify(
    bundle: BundleArgument = "default",
    data: Annotated[
        Path | None,
        typer.Option("--data", help="FER-2013 in any form that 'data info' reads; without it, a self-test."),
    ] = None,
    split: Annotated[Split, typer.Option("--split", help="Which pictures; test is both.")] = Split.private,
    backend: Annotated[str, typer.Option("--backend", help="all, or names with commas between.")] = "all",
    precision: Annotated[str, typer.Option("--precision", help="all, or names with commas between.")] = "all",
    require: Annotated[
        str, typer.Option("--require", help="Forms that must run and pass: trt/int8,onnx/fp16,...")
    ] = "",
    target: Annotated[
        float | None, typer.Option("--target", min=0, max=100, help="Accuracy in percent; else the bundle's own.")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option("--tolerance", min=0, help="Points that accuracy may lie below; 0.5.")
    ] = None,
    max_drift: Annotated[
        float | None, typer.Option("--max-drift", min=0, help="Points that accuracy may lie from Keras's; 0.5.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, ...")] = "auto",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures per batch.")] = 64,
    threads: ThreadsOption = None,
    tta: TtaOption = None,
    record: Annotated[bool, typer.Option("--record", help="Keep the result for infer and bench.")] = False,
    report: Annotated[Path | None, typer.Option("--report", help="A folder for tables and pictures.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Prove that no form of a model lost accuracy: every backend and precision beside Keras.

    Keras is the ground where it is installed, else its answers that the bundle
    holds. Each form must reach the target, stay near Keras's accuracy and give
    the same top-1 nearly always. Forms that cannot run here are told with the
    reason, and fail only where they are required. Without --data the forms are
    compared on drawn pictures, and no accuracy is measured.

    Exit code 0: all passed; 1: a form failed or a required one did not run;
    2: nothing could be verified, or a backend that was named cannot run.

    Examples:

      fer-deploy verify --data fer2013.zip

      fer-deploy verify bundle/ --data fer2013.zip --split test --require openvino/int8,onnx/int8

      fer-deploy verify bundle/ --backend openvino --json > verify.json
    """
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # Keras runs on the CPU: leave the GPU to the others
    from fer_deploy.backends.tta import check_tta
    from fer_deploy.bundle.manifest import Bundle
    from fer_deploy.cli.tables import print_verification
    from fer_deploy.verification.self_test import self_test
    from fer_deploy.verification.variants import select
    from fer_deploy.verification.verifier import VerificationOptions
    from fer_deploy.verification.verifier import verify as run

    check_tta(tta)
    loaded = Bundle.load(bundle)
    selection = select(backend, precision, require)
    if data is None:
        _only_with_data(target=target, tolerance=tolerance, max_drift=max_drift, record=record, report=report, tta=tta)
        with stages() as progress:
            outcome = self_test(loaded, selection, VerificationOptions(batch, threads, device, progress))
        about: dict[str, object] = {"source": "built in"}
    else:
        if record and tta:
            raise UsageError(
                "--record is for answers to single pictures, which infer gives: leave --record or --tta out"
            )
        if report:
            from fer_deploy.verification.verification_report import check_report

            check_report(report)
        gate = _gate(loaded, target, tolerance, max_drift)
        partition = _read(data, _PARTITION[split])
        with stages() as progress:
            options = VerificationOptions(batch, threads, device, progress, tta)
            outcome = run(loaded, partition, _PARTITION[split], selection, gate, options)
        about = {"source": str(data), "sha256": partition.fingerprint()}
    if as_json:
        print(json.dumps(_as_json(loaded, outcome, about), indent=2, allow_nan=False))
    else:
        print_verification(loaded, outcome, str(data or "drawn pictures"))
    for line in outcome.failures:
        print(f"FAILED {line}", file=sys.stderr if as_json else sys.stdout)
    if data is not None:
        _keep(loaded, outcome, partition, threads, record, report)
    if not outcome.passed:
        raise typer.Exit(1)


def _only_with_data(**given: object) -> None:
    wrong = [f"--{name.replace('_', '-')}" for name, value in given.items() if value not in (None, False)]
    if wrong:
        raise UsageError(f"{', '.join(wrong)}: only with --data, since without it no accuracy is measured")


def _read(data: Path, name: str) -> Partition:
    from fer_deploy.data.fer2013_reader import load_fer2013

    with progress_bar(f"Reading {data.name}") as count:
        return load_fer2013(data, tests_only=True, progress=count).partition(name)


def _gate(bundle: Bundle, target: float | None, tolerance: float | None, max_drift: float | None) -> Gate:
    from fer_deploy.verification.tolerances import MAX_DRIFT_POINTS, TOLERANCE_POINTS, Gate

    for name, value in (("target", target), ("tolerance", tolerance), ("max-drift", max_drift)):
        if value is not None and not math.isfinite(value):
            raise UsageError(f"--{name} is {value}, expected a number")
    return Gate(
        bundle.target_accuracy if target is None else target / 100,
        TOLERANCE_POINTS if tolerance is None else tolerance,
        MAX_DRIFT_POINTS if max_drift is None else max_drift,
    )


def _keep(
    bundle: Bundle, outcome: Verification, partition: Partition, threads: int | None, record: bool, report: Path | None
) -> None:
    """Writes what was asked for, and tells on stderr where it went."""
    if report:
        from fer_deploy.verification.verification_report import write_report

        files = write_report(report, outcome, partition, bundle.name)
        print(f"Report in {report}: {', '.join(files)}", file=sys.stderr)
    if record:
        from fer_deploy.verification.record import record as keep

        print(f"Recorded in {keep(bundle, outcome, partition.images[..., None], threads)}", file=sys.stderr)


def _as_json(bundle: Bundle, outcome: Verification, about: dict[str, object]) -> dict[str, object]:
    from fer_deploy.system.machine import machine_info

    reference = outcome.reference
    return {
        "schema": 1,
        "machine": machine_info(),
        "bundle": {"path": bundle.address, "name": bundle.name, "source_sha256": bundle.source_sha256},
        "data": {
            **about,
            "split": outcome.split,
            "n": outcome.n,
            "ground": reference.source,
            "notes": list(reference.notes),
        },
        "tta": outcome.tta,
        "gate": outcome.limits,
        "rows": [row.as_dict() for row in outcome.rows],
        "failures": list(outcome.failures),
        "passed": outcome.passed,
    }
