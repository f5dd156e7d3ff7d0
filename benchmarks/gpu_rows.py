"""What the scripts for GPUs share: a form measured in a process of its own becomes a row, whatever happens to it."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from fer_deploy.backends.registry import backend_class
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.bundle.reference_predictions import read_outputs
from fer_deploy.data.fer2013 import PRIVATE
from fer_deploy.data.probe import probe_images
from fer_deploy.metrics.accuracy import compare
from fer_deploy.system.gpus import ask_driver
from fer_deploy.system.machine import machine_info
from fer_deploy.verification.reference import recorded_predictions, run_all

BATCHES = (1, 8, 64, 256)
SECONDS_PER_VARIANT = 100
FACTS = "name,driver_version,memory.total,compute_cap,clocks.max.sm,clocks.sm,power.limit,temperature.gpu"
Row = dict[str, Any]


def arguments(doc: str | None, minutes: float, seconds: float) -> argparse.ArgumentParser:
    """The options that both scripts have.

    Args:
        doc: The script's own description.
        minutes: Of the whole run, if not given.
        seconds: Per batch size, if not given.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--seconds", type=float, default=seconds, help="per batch size, for latency and for throughput")
    parser.add_argument("--form", metavar="BACKEND:DEVICE:PRECISION")
    return parser


def driver_or_exit(script: str) -> Row:
    """Tells what the GPU's driver says; ends the program with exit code 2 where there is no GPU."""
    driver = ask_driver()
    if not driver["gpus"]:
        print(f"{script}: there is no GPU to measure: {driver['reason']}", file=sys.stderr)
        raise SystemExit(2)
    return driver


def handed_on(args: argparse.Namespace) -> list[str]:
    """The options that a form's process gets, too."""
    data = ["--data", str(args.data)] if args.data else []
    return ["--bundle", args.bundle, "--seconds", str(args.seconds), *data]


def result_text(driver: Row, rows: list[Row]) -> str:
    """The result file: machine, GPU and rows as JSON."""
    result = {"schema": 1, "machine": machine_info(), "driver": driver, "nvidia_smi": nvidia_smi(), "rows": rows}
    return json.dumps(result, indent=1) + "\n"


def in_process(script: str, variant: str, options: list[str], stop: float, python: str = sys.executable) -> Row:
    """Runs a form in a process of its own, until the time is over; what goes wrong is the row's reason.

    Args:
        script: What takes ``--form`` and prints a row as its last line.
        form: ``BACKEND:DEVICE:PRECISION``.
        options: Handed on.
        stop: When all must be done, by ``time.monotonic()``.
        python: Of the environment to run in; it is shown where fer-deploy lies.
    """
    limit_s = min(SECONDS_PER_VARIANT, stop - time.monotonic())
    print(f"{Path(script).stem}: {variant}", file=sys.stderr)
    if limit_s < 5:
        return failed(variant, "the time was over")
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [python, script, "--form", variant, *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, env=env)
    except subprocess.TimeoutExpired:
        return failed(variant, f"not done after {limit_s:.0f} s")
    except OSError as error:
        return failed(variant, f"{python}: {error.strerror}")
    try:
        row: Row = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return failed(variant, f"exit code {done.returncode}: {' '.join(done.stderr.split())[-500:]}")
    return row


def agreement(backend: Any, bundle: Bundle, data: Path | None) -> Row:
    """Compares an open backend's answers with Keras's recorded ones, else with OpenVINO's, and with the labels."""
    images, labels, split = load_images(data)
    reference, of = reference_predictions(bundle, images)
    found = compare(run_all(backend, images), reference, labels)
    return {
        "split": split,
        "n": found.n,
        "ground": of,
        "accuracy": found.score.accuracy if found.score else None,
        "drift_points": found.drift_points,
        "agreement": found.agreement,
        "max_abs_difference": found.max_abs_difference,
    }


def speed(backend: Any, seconds: float) -> Row:
    """Times single calls (latency) and a stream (throughput) per batch size, on noise; raw samples of the latency."""
    sizes = {}
    noise = np.random.default_rng(0).integers(0, 256, (max(BATCHES), 48, 48, 1), dtype=np.uint8)
    for batch in BATCHES:
        part = noise[:batch]
        for _ in range(10):
            backend.run(part)
        samples = []
        stop = time.perf_counter() + seconds
        while time.perf_counter() < stop and len(samples) < 2000:
            started = time.perf_counter()
            backend.run(part)
            samples.append(time.perf_counter() - started)
        count = max(20, int(seconds / float(np.median(samples))))
        started = time.perf_counter()
        for _ in backend.run_stream(part for _ in range(count)):
            pass
        p50, p90, p99 = np.percentile(samples, (50, 90, 99)).tolist()
        sizes[str(batch)] = {
            "images_per_s": batch * count / (time.perf_counter() - started),
            "latency_p50_s": p50,
            "latency_p90_s": p90,
            "latency_p99_s": p99,
            "latency_s": [round(sample, 7) for sample in samples],
        }
    return {"batches": sizes}


def load_images(data: Path | None) -> tuple[Any, Any, str]:
    """FER-2013's PrivateTest, or drawn pictures without labels."""
    if data is None:
        return probe_images(), None, "drawn pictures"
    from fer_deploy.data.fer2013_reader import load_fer2013

    partition = load_fer2013(data).partition(PRIVATE)
    return np.ascontiguousarray(partition.images[..., None]), partition.labels, PRIVATE


def reference_predictions(bundle: Bundle, images: Any) -> tuple[Any, str]:
    """Keras's recorded answers to just these pictures, or what OpenVINO gives in fp32."""
    outputs = read_outputs(bundle)
    if outputs is not None:
        known = outputs.probe if np.array_equal(images, probe_images()) else recorded_predictions(outputs, images)
        if known is not None:
            return known, "keras, recorded"
    with backend_class("openvino")(bundle) as backend:
        return run_all(backend, images), "openvino fp32"


def nvidia_smi() -> dict[str, str] | str:
    """Facts that the driver's tool gives of the first GPU, or why it gives none."""
    command = ["nvidia-smi", f"--query-gpu={FACTS}", "--format=csv,noheader", "--id=0"]
    try:
        line = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi: {error}"
    return dict(zip(FACTS.split(","), (field.strip() for field in line.split(",")), strict=False))


def empty(variant: str) -> Row:
    """The beginning of every row."""
    backend, device, precision = variant.split(":")
    return {"backend": backend, "device": device, "precision": precision, "status": "failed", "reason": None}


def failed(variant: str, reason: str) -> Row:
    """A row that says why there is nothing in it."""
    return {**empty(variant), "reason": reason}
