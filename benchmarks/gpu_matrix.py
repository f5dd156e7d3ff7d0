#!/usr/bin/env python3
"""TensorRT beside what else runs the same network on the same NVIDIA GPU, in one call of under ten minutes.

    benchmarks/gpu_matrix.py [--data fer2013.zip] [--output benchmarks/results/] [--minutes 9.5]
    benchmarks/gpu_matrix.py --python keras-jax=/venvs/jax/bin/python --python torch-compile=/venvs/torch/bin/python

The `trt` backend in fp16 and int8-trt, ONNX Runtime on CUDA, Keras compiled by XLA (JAX, TensorFlow) and torch.compile
(our layers with random weights), each in a process of its own, in rounds. --python names the environment of a form's
first part; it needs numpy and Pillow besides its framework. All times are from host memory to host memory. Exit code 2
if there is no GPU.

    benchmarks/gpu_matrix.py --form keras-tensorflow:cpu:fp32      # one row, as JSON: what the processes run
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from gpu_rows import (
    BATCHES,
    Row,
    agreement,
    arguments,
    driver_or_exit,
    empty,
    failed,
    handed_on,
    in_process,
    result_text,
    speed,
)
from rounds import markdown, result_name

from fer_deploy.backends.registry import backend_class
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import one_line

VARIANTS = (
    *(f"trt:cuda:{precision}" for precision in ("fp16", "int8-trt")),
    *(f"onnx:cuda:{precision}" for precision in ("fp32", "fp16")),
    *("keras-jax:cuda:fp32", "keras-tensorflow:cuda:fp32"),
    *(f"torch-compile:cuda:{precision}" for precision in ("fp32", "fp16")),
)
IN_FLIGHT = 4


class Launched:
    """A framework that computes while Python goes on; looks like a backend to what measures.

    Args:
        launch: Starts a batch, uint8 (N, 48, 48, 1).
        fetch: Waits for what ``launch`` gave and brings it to host memory, float32 (N, 7).
        runtime: Its name and version.
    """

    def __init__(self, launch: Callable[[Any], Any], fetch: Callable[[Any], Any], runtime: str) -> None:
        self._launch, self._fetch, self.runtime = launch, fetch, runtime

    def run(self, batch: Any) -> Any:
        return self._fetch(self._launch(batch))

    def run_stream(self, batches: Iterable[Any]) -> Iterator[Any]:
        waiting: deque[Any] = deque()
        for batch in batches:
            waiting.append(self._launch(batch))
            if len(waiting) > IN_FLIGHT:
                yield self._fetch(waiting.popleft())
        yield from map(self._fetch, waiting)


def keras_xla(framework: str, bundle: Bundle, device: str) -> Launched:
    """Loads the bundle's Keras model on a framework and has XLA compile it."""
    os.environ["KERAS_BACKEND"] = framework
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    file = next(artefact.file for artefact in bundle.artefacts if artefact.format == "keras")
    model = keras.saving.load_model(bundle.path / file, compile=False)
    if framework == "jax":
        import jax

        found = jax.devices()[0].platform
        weights = [[v.value for v in group] for group in (model.trainable_variables, model.non_trainable_variables)]
        compiled = jax.jit(lambda weights, x: model.stateless_call(*weights, x, training=False)[0])
        launch, version = lambda batch: compiled(weights, batch), f"JAX {jax.__version__}"
    else:
        import tensorflow as tf

        found = "gpu" if tf.config.list_physical_devices("GPU") else "cpu"
        compiled = tf.function(lambda x: model(x, training=False), jit_compile=True)
        launch, version = lambda batch: compiled(tf.constant(batch)), f"TensorFlow {tf.__version__}"
    if found != {"cuda": "gpu"}.get(device, device):
        raise RuntimeError(f"{version} runs on the {found} here, not on {device}")
    return Launched(launch, np.asarray, f"Keras {keras.__version__}, {version}, XLA")


def torch_compile(precision: str, device: str) -> Launched:
    """Builds our layers in PyTorch and compiles them."""
    import torch
    from torch_net import build_torch_net

    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} sees no GPU here")
    net = build_torch_net().to(device, torch.float16 if precision == "fp16" else torch.float32)
    compiled = torch.compile(net.to(memory_format=torch.channels_last), dynamic=False)

    def launch(batch: Any) -> Any:
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).to(device, non_blocking=True)
            return compiled(pixels.permute(0, 3, 1, 2))

    return Launched(launch, lambda prediction: prediction.cpu().numpy(), f"PyTorch {torch.__version__}, torch.compile")


def row_of(variant: str, bundle: Bundle, data: Path | None, seconds: float) -> Row:
    """Measures one form; never raises."""
    name, device, precision = variant.split(":")
    try:
        started = time.perf_counter()
        if name == "torch-compile":
            opened: Any = nullcontext(torch_compile(precision, device))
        elif name.startswith("keras-"):
            opened = nullcontext(keras_xla(name.removeprefix("keras-"), bundle, device))
        else:
            opened = backend_class(name)(bundle, precision, device)
        with opened as backend:
            row = {**empty(variant), "runtime": backend.runtime, "open_s": time.perf_counter() - started}
            row["weights"] = "random" if name == "torch-compile" else "ours"
            if row["weights"] == "ours":
                row |= agreement(backend, bundle, data)
            return {**row, **speed(backend, seconds), "status": "ok"}
    except Exception as error:  # a row with its reason, whatever a runtime raises
        return failed(variant, f"{type(error).__name__}: {one_line(error, 500)}")


def merged(rounds: list[Row]) -> Row:
    """Makes one row of a form's rounds: medians over those that went well, and each round's figures."""
    good = [row for row in rounds if row["status"] == "ok"]
    if not good:
        return rounds[0]
    figures = [row["batches"] for row in good]
    keys = ("images_per_s", "latency_p50_s", "latency_p90_s", "latency_p99_s")
    medians = {
        size: {key: statistics.median(each[size][key] for each in figures) for key in keys} for size in figures[0]
    }
    return {**good[0], "batches": medians, "rounds": figures}


def table(rows: list[Row]) -> str:
    """Draws images/s per batch size, and how many times as fast the first row is at its best."""

    def best(row: Row) -> float:
        return max(each["images_per_s"] for each in row["batches"].values())

    lines = []
    for row in rows:
        name = f"{row['backend']} {row['precision']}"
        if row["status"] != "ok":
            lines.append([name, row["reason"], *[""] * (len(BATCHES) + 2)])
            continue
        speeds = [f"{row['batches'][str(batch)]['images_per_s']:,.0f}" for batch in BATCHES]
        p50 = f"{1e3 * row['batches']['1']['latency_p50_s']:.3f} ms"
        times = f"{best(rows[0]) / best(row):.2f}" if rows[0]["status"] == "ok" else ""
        lines.append([name, row["runtime"], *speeds, p50, times])
    sizes = [f"images/s, batch {batch}" for batch in BATCHES]
    return markdown(["form", "runtime", *sizes, "p50, one", "first row is x times as fast"], lines)


def main() -> int:
    """Runs the command line."""
    parser = arguments(__doc__, minutes=9.5, seconds=0.3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    args = parser.parse_args()
    if args.form:
        print(json.dumps(row_of(args.form, Bundle.load(args.bundle), args.data, args.seconds)))
        return 0
    driver = driver_or_exit("gpu_matrix")
    pythons = dict(entry.split("=", 1) for entry in args.python)
    stop = time.monotonic() + 60 * args.minutes
    found: dict[str, list[Row]] = {variant: [] for variant in VARIANTS}
    for _ in range(args.rounds):
        for variant, rounds in found.items():
            if not rounds or rounds[-1]["status"] == "ok":  # what failed once is not tried again
                python = pythons.get(variant.partition(":")[0], sys.executable)
                rounds.append(in_process(__file__, variant, handed_on(args), stop, python))
    rows = [merged(rounds) for rounds in found.values()]
    text = result_text(driver, rows)
    if args.output:
        gpu = driver["gpus"][0]
        name = result_name("gpu_matrix", {"cpu": gpu["name"], "cpu_class": gpu["target"]})
        (args.output / name if args.output.is_dir() else args.output).write_text(text, encoding="utf-8")
        print(table(rows))
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
