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

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from gpu_rows import agreement, arguments, driver_or_exit, empty, failed, handed_on, in_process, result_text, speed

from fer_deploy.backends.base import Backend
from fer_deploy.backends.registry import backend_class
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.data.probe import probe_images
from fer_deploy.errors import FerDeployError, one_line

BUILD = "build:current:fp16"
VARIANTS = (
    *(f"onnx:cuda:{precision}" for precision in ("fp32", "fp16")),
    *(f"trt:cuda:{precision}" for precision in ("fp32", "fp16", "int8-trt")),
    *(f"onnx:tensorrt:{precision}" for precision in ("fp32", "fp16", "int8-trt")),
    BUILD,
)


def main() -> int:
    """Runs the command line."""
    args = arguments(__doc__, minutes=8, seconds=1.0).parse_args()
    if args.form:
        print(json.dumps(row_of(args.form, Bundle.load(args.bundle), args.data, args.seconds)))
        return 0
    driver = driver_or_exit("gpu_check")
    stop = time.monotonic() + 60 * args.minutes
    rows = [in_process(__file__, variant, handed_on(args), stop) for variant in VARIANTS]
    text = result_text(driver, rows)
    if args.output:
        args.output.write_text(text, encoding="utf-8")
        print_table(rows)
    else:
        print(text, end="")
    return int(rows[0]["status"] != "ok")


def row_of(variant: str, bundle: Bundle, data: Path | None, seconds: float) -> dict[str, Any]:
    """Measures one form; never raises."""
    try:
        if variant == BUILD:
            return {**empty(variant), **build_for_current(bundle), "status": "ok"}
        name, device, precision = variant.split(":")
        kind: Any = backend_class(name)
        if name != "trt":
            return {
                **empty(variant),
                **measured(kind(bundle, precision, device), bundle, data, seconds),
                "status": "ok",
            }
        row = {**empty(variant), **measured(kind(bundle, precision, device), bundle, data, seconds), "cuda_graph": True}
        without = kind(bundle, precision, device, graph=False)
        with without:
            row["without_cuda_graph"] = {
                **speed(without, seconds),
                "max_abs_difference": graph_difference(kind, bundle, precision),
            }
        return {**row, "status": "ok"}
    except FerDeployError as error:
        return failed(variant, str(error))
    except Exception as error:  # a row with its reason, whatever a runtime raises
        return failed(variant, f"{type(error).__name__}: {one_line(error, 500)}")


def measured(backend: Backend, bundle: Bundle, data: Path | None, seconds: float) -> dict[str, Any]:
    """Opens a backend and measures accuracy, agreement and speed."""
    started = time.perf_counter()
    with backend:
        opened_s = time.perf_counter() - started
        return {
            "effective": backend.effective,
            "simulated": backend.simulated,
            "runtime": backend.runtime,
            "gpu": backend.gpu,
            "open_s": opened_s,
            **agreement(backend, bundle, data),
            **speed(backend, seconds),
            "listing": backend.listing().splitlines() if hasattr(backend, "listing") else [],
        }


def graph_difference(kind: Any, bundle: Bundle, precision: str) -> float:
    """The largest difference of a probability between runs with and without CUDA graphs."""
    images = probe_images()
    with kind(bundle, precision) as graphs, kind(bundle, precision, graph=False) as plain:
        return float(np.abs(graphs.run(images) - plain.run(images)).max())


def build_for_current(bundle: Bundle) -> dict[str, Any]:
    """Has TensorRT for RTX build for the GPU that is here, which its list of targets may not hold."""
    from fer_deploy.backends.tensorrt.builder import build_engine, summary
    from fer_deploy.backends.tensorrt.flavour import import_flavour

    flavour = import_flavour(for_target="sm86")
    built = build_engine(flavour, bundle.read("onnx", "fp16"), "fp16")
    return {
        "runtime": f"{flavour.name} {flavour.version}",
        "targets": flavour.targets,
        "build_s": built.seconds,
        "size": len(built.content),
        "built": summary(built.layers),
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    """Prints one line per form."""
    for row in rows:
        variant = f"{row['backend']} {row['device']} {row['precision']}"
        if row["status"] != "ok":
            print(f"{variant:24} {row['reason']}")
        elif "batches" not in row:
            print(f"{variant:24} {row['runtime']}: built in {row['build_s']:.1f} s: {row['built']}")
        else:
            sizes = row["batches"]
            accuracy = "" if row["accuracy"] is None else f"accuracy {row['accuracy']:.2%}  "
            speed = f"{sizes['256']['images_per_s']:,.0f} images/s"
            print(
                f"{variant:24} {accuracy}agreement {row['agreement']:.2%}  {speed}  "
                f"p50 {1e3 * sizes['1']['latency_p50_s']:.3f} ms  {row['runtime']}, in {row['effective']}"
            )


if __name__ == "__main__":
    sys.exit(main())
