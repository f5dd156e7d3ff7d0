#!/usr/bin/env python3
"""Everything that a machine with an NVIDIA GPU must show, in one call of less than eight minutes.

    benchmarks/gpu_check.py [--data fer2013.zip] [--bundle default] [--output gpu.json] [--minutes 8]

Accuracy and agreement with Keras's recorded answers (else with OpenVINO fp32), throughput, latency, and what TensorRT
says of its layers: for ONNX Runtime on CUDA and on TensorRT, and for TensorRT with and without CUDA graphs. Each form
runs in a process of its own, so that one that crashes or hangs is a row with its reason and costs no other. Exit code
0 if ONNX Runtime ran on CUDA, 1 if not, 2 if there is no GPU.

    benchmarks/gpu_check.py --form onnx:cpu:fp32      # one row, as JSON: what the processes run
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from fer_deploy.backends.base import Backend
from fer_deploy.backends.registry import backend_class
from fer_deploy.bundle import Bundle
from fer_deploy.data.fer2013 import PRIVATE
from fer_deploy.errors import FerDeployError
from fer_deploy.evaluation.comparison import compare
from fer_deploy.evaluation.ground import recorded_answers
from fer_deploy.evaluation.keras_outputs import read_outputs
from fer_deploy.evaluation.measurement import run_all
from fer_deploy.evaluation.probe import probe_images
from fer_deploy.gpus import ask_driver
from fer_deploy.machine import machine_info

BUILD = "build:current:fp16"
FORMS = (
    *(f"onnx:cuda:{precision}" for precision in ("fp32", "fp16")),
    *(f"trt:cuda:{precision}" for precision in ("fp32", "fp16", "int8-trt")),
    *(f"onnx:tensorrt:{precision}" for precision in ("fp32", "fp16", "int8-trt")),
    BUILD,
)
BATCHES = (1, 8, 64, 256)
SECONDS_PER_FORM = 100
FACTS = "name,driver_version,memory.total,compute_cap,clocks.max.sm,clocks.sm,power.limit,temperature.gpu"


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--seconds", type=float, default=1.0, help="per batch size, for latency and for throughput")
    parser.add_argument("--form", metavar="BACKEND:DEVICE:PRECISION")
    args = parser.parse_args()
    if args.form:
        print(json.dumps(row_of(args.form, Bundle.load(args.bundle), args.data, args.seconds)))
        return 0
    driver = ask_driver()
    if not driver["gpus"]:
        print(f"gpu_check: there is no GPU to check: {driver['reason']}", file=sys.stderr)
        return 2
    stop = time.monotonic() + 60 * args.minutes
    rows = [in_process(form, args, stop) for form in FORMS]
    result = {"schema": 1, "machine": machine_info(), "driver": driver, "nvidia_smi": nvidia_smi(), "rows": rows}
    text = json.dumps(result, indent=1)
    if args.output:
        args.output.write_text(text + "\n", encoding="utf-8")
        print_table(rows)
    else:
        print(text)
    return int(rows[0]["status"] != "ok")


def in_process(form: str, args: argparse.Namespace, stop: float) -> dict[str, Any]:
    """Runs a form in a process of its own, until the time is over; what goes wrong is the row's reason."""
    limit_s = min(SECONDS_PER_FORM, stop - time.monotonic())
    print(f"gpu_check: {form}", file=sys.stderr)
    if limit_s < 5:
        return failed(form, "the time was over")
    command = [sys.executable, __file__, "--form", form, "--bundle", args.bundle, "--seconds", str(args.seconds)]
    command += ["--data", str(args.data)] if args.data else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return failed(form, f"not done after {limit_s:.0f} s")
    try:
        row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return failed(form, f"exit code {done.returncode}: {' '.join(done.stderr.split())[-500:]}")
    return row


def row_of(form: str, bundle: Bundle, data: Path | None, seconds: float) -> dict[str, Any]:
    """Measures one form; never raises."""
    try:
        if form == BUILD:
            return {**empty(form), **build_for_current(bundle), "status": "ok"}
        name, device, precision = form.split(":")
        kind: Any = backend_class(name)
        if name != "trt":
            return {**empty(form), **measured(kind(bundle, precision, device), bundle, data, seconds), "status": "ok"}
        row = {**empty(form), **measured(kind(bundle, precision, device), bundle, data, seconds), "cuda_graph": True}
        without = kind(bundle, precision, device, graph=False)
        with without:
            row["without_cuda_graph"] = {
                **speed(without),
                "max_abs_difference": graph_difference(kind, bundle, precision),
            }
        return {**row, "status": "ok"}
    except FerDeployError as error:
        return failed(form, str(error))
    except Exception as error:  # a row with its reason, whatever a runtime raises
        return failed(form, f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")


def measured(backend: Backend, bundle: Bundle, data: Path | None, seconds: float) -> dict[str, Any]:
    """Opens a backend and measures accuracy, agreement and speed."""
    begun = time.perf_counter()
    with backend:
        opened_s = time.perf_counter() - begun
        images, labels, split = pictures(data)
        ground, of = ground_answers(bundle, images)
        found = compare(run_all(backend, images), ground, labels)
        return {
            "effective": backend.effective,
            "simulated": backend.simulated,
            "runtime": backend.runtime,
            "gpu": backend.gpu,
            "open_s": opened_s,
            "split": split,
            "n": found.n,
            "ground": of,
            "accuracy": found.score.accuracy if found.score else None,
            "drift_points": found.drift_points,
            "agreement": found.agreement,
            "max_abs_difference": found.max_abs_difference,
            **speed(backend, seconds),
            "listing": backend.listing().splitlines() if hasattr(backend, "listing") else [],
        }


def speed(backend: Backend, seconds: float) -> dict[str, Any]:
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
            begun = time.perf_counter()
            backend.run(part)
            samples.append(time.perf_counter() - begun)
        count = max(20, int(seconds / float(np.median(samples))))
        begun = time.perf_counter()
        for _ in backend.run_stream(part for _ in range(count)):
            pass
        p50, p90, p99 = np.percentile(samples, (50, 90, 99)).tolist()
        sizes[str(batch)] = {
            "images_per_s": batch * count / (time.perf_counter() - begun),
            "latency_p50_s": p50,
            "latency_p90_s": p90,
            "latency_p99_s": p99,
            "latency_s": [round(sample, 7) for sample in samples],
        }
    return {"batches": sizes}


def graph_difference(kind: Any, bundle: Bundle, precision: str) -> float:
    """The largest difference of a probability between runs with and without CUDA graphs."""
    images = probe_images()
    with kind(bundle, precision) as graphs, kind(bundle, precision, graph=False) as plain:
        return float(np.abs(graphs.run(images) - plain.run(images)).max())


def build_for_current(bundle: Bundle) -> dict[str, Any]:
    """Has TensorRT for RTX build for the GPU that is here, which its list of targets may not hold."""
    from fer_deploy.backends.tensorrt.builder import build_engine
    from fer_deploy.backends.tensorrt.flavour import import_flavour
    from fer_deploy.backends.tensorrt.layers import summary

    flavour = import_flavour(for_target="sm86")
    built = build_engine(flavour, bundle.read("onnx", "fp16"), "fp16")
    return {
        "runtime": f"{flavour.name} {flavour.version}",
        "targets": flavour.targets,
        "build_s": built.seconds,
        "size": len(built.content),
        "built": summary(built.layers),
    }


def pictures(data: Path | None) -> tuple[Any, Any, str]:
    """FER-2013's PrivateTest, or drawn pictures without labels."""
    if data is None:
        return probe_images(), None, "drawn pictures"
    from fer_deploy.data import load_fer2013

    partition = load_fer2013(data).partition(PRIVATE)
    return np.ascontiguousarray(partition.images[..., None]), partition.labels, PRIVATE


def ground_answers(bundle: Bundle, images: Any) -> tuple[Any, str]:
    """Keras's recorded answers to just these pictures, or what OpenVINO gives in fp32."""
    outputs = read_outputs(bundle)
    if outputs is not None:
        known = outputs.probe if np.array_equal(images, probe_images()) else recorded_answers(outputs, images)
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


def empty(form: str) -> dict[str, Any]:
    """The beginning of every row."""
    backend, device, precision = form.split(":")
    return {"backend": backend, "device": device, "precision": precision, "status": "failed", "reason": None}


def failed(form: str, reason: str) -> dict[str, Any]:
    """A row that says why there is nothing in it."""
    return {**empty(form), "reason": reason}


def print_table(rows: list[dict[str, Any]]) -> None:
    """Prints one line per form."""
    for row in rows:
        form = f"{row['backend']} {row['device']} {row['precision']}"
        if row["status"] != "ok":
            print(f"{form:24} {row['reason']}")
        elif "batches" not in row:
            print(f"{form:24} {row['runtime']}: built in {row['build_s']:.1f} s: {row['built']}")
        else:
            sizes = row["batches"]
            accuracy = "" if row["accuracy"] is None else f"accuracy {row['accuracy']:.2%}  "
            print(
                f"{form:24} {accuracy}agreement {row['agreement']:.2%}  {sizes['256']['images_per_s']:,.0f} images/s  "
                f"p50 {1e3 * sizes['1']['latency_p50_s']:.3f} ms  {row['runtime']}, in {row['effective']}"
            )


if __name__ == "__main__":
    sys.exit(main())
