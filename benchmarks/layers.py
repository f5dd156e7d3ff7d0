#!/usr/bin/env python3
"""Where the time goes inside a network: OpenVINO's own profile of a bundle's layers, on one thread.

    benchmarks/layers.py [BUNDLE] [--precision int8] [--batch 64] [--rounds 30]

``share`` is a layer's part of the time of all; ``kernel`` is what computes it.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
from rounds import markdown

from fer_deploy.backends.openvino import shared_core
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.system.machine import machine_info


def profile(content: bytes, batch: int, rounds: int) -> list[tuple[str, str, float]]:
    """Runs drawn pictures; gives each layer's name, kernel and median seconds, in the order in which they run."""
    settings = {"PERF_COUNT": True, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    core = shared_core()
    request = core.compile_model(core.read_model(content), "CPU", settings).create_infer_request()
    images = np.random.default_rng(0).integers(0, 256, (batch, 48, 48, 1), dtype=np.uint8)
    kernels: dict[str, str] = {}
    seconds: dict[str, list[float]] = {}
    for turn in range(rounds + rounds // 5 + 1):
        request.infer({0: images})
        for entry in request.profiling_info if turn > rounds // 5 else []:  # the first ones are warm-up
            if taken := entry.real_time.total_seconds():
                kernels[entry.node_name] = f"{entry.node_type} {entry.exec_type}"
                seconds.setdefault(entry.node_name, []).append(taken)
    return [(name, kernels[name], statistics.median(found)) for name, found in seconds.items()]


def table(layers: list[tuple[str, str, float]]) -> str:
    """Draws what takes at least half a percent."""
    total = sum(seconds for *_, seconds in layers)
    rows: list[list[Any]] = [
        [name, kernel, f"{1e3 * seconds:.3f}", f"{seconds / total:.1%}"]
        for name, kernel, seconds in layers
        if seconds >= total / 200
    ]
    return markdown(["layer", "kernel", "ms", "share"], rows)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", default="default")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    bundle, machine = Bundle.load(args.bundle), machine_info()
    layers = profile(bundle.read("onnx", args.precision), args.batch, args.rounds)
    where = f"{machine['cpu']} ({machine['cpu_class']})"
    print(f"{bundle.name} {args.precision}, batch {args.batch}, one thread of {where}\n")
    print(table(layers))


if __name__ == "__main__":
    main()
