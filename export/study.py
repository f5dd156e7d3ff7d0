#!/usr/bin/env python3
"""Which calibration is right for INT8: methods x numbers of pictures x draws, measured on FER-2013's PublicTest.

    pip install -e '.[export,onnx]' matplotlib
    export/study.py --data fer2013.zip

Writes ``export/results/calibration-<CPU class>.json``, ``.md`` and ``.png``. The files that it measures are made as
``fer-deploy export`` makes them, from the shipped bundle's fp32 file; int8 runs on OpenVINO, int8-trt is simulated in
ONNX Runtime on every third picture, since that takes its time. PrivateTest is not looked at. About 30 minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fer_deploy.backends.select import open_backend
from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.data.fer2013 import PUBLIC, Fer2013
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.exporting.export_recipe import load_export_recipe
from fer_deploy.exporting.inputs import draw_calibration
from fer_deploy.exporting.int8.graph import CPU, TENSORRT
from fer_deploy.exporting.int8.quantise import observe, write
from fer_deploy.system.machine import machine_info

RESULTS = Path(__file__).resolve().parent / "results"
RECIPE = Path(__file__).resolve().parent / "recipes/default.toml"
METHODS = (("min-max", 0.0), ("entropy", 0.0), ("percentile", 99.9), ("percentile", 99.99), ("mse", 0.0))
COUNTS = (32, 128, 512, 2048)
PLAIN_COUNTS = (512,)
STRIDE = {CPU: 1, TENSORRT: 3}
"""Every how many-th picture is run."""
SEEDS = (0, 1, 2)
PLAIN = {"equalise": 0.0, "rounding": "nearest"}
"""What the methods are compared with once more: no equalisation, every weight rounded to the nearest."""


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="FER-2013 in any form")
    parser.add_argument("--threads", type=int, help="of the runtimes; default: physical cores")
    args = parser.parse_args()
    dataset = load_fer2013(args.data)
    machine = machine_info()
    rows = []
    for row in measure(dataset, args.threads):
        print(f"{describe(row):28} {row['count']:5} seed {row['seed']} {row['precision']:9} {figures(row)}", flush=True)
        rows.append(row)
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"calibration-{machine['cpu_class']}"
    content = {"schema": 1, "machine": machine, "split": PUBLIC, "rows": rows}
    target.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    target.with_suffix(".md").write_text(table(rows, machine), encoding="utf-8")
    plot(rows, target.with_suffix(".png"))
    print(f"Written: {target}.json, .md, .png")


def measure(dataset: Fer2013, threads: int | None) -> Iterator[dict[str, Any]]:
    """Yields one row per method, count, seed and precision."""
    bundle = Bundle.load()
    shipped = load_export_recipe(RECIPE).int8
    content = bundle.read("onnx")
    public = dataset.partition(PUBLIC)
    with open_backend(bundle, "openvino", threads=threads) as backend:
        reference = predictions(backend, public.images)
    for plain in (False, True):
        for count in PLAIN_COUNTS if plain else COUNTS:
            for seed in SEEDS:
                base = dataclasses.replace(shipped, count=count, seed=seed, **(PLAIN if plain else {}))
                calibration = draw_calibration(dataset, count, seed)
                observed = observe(content, calibration.images, base)
                for method, percentile in METHODS:
                    recipe = dataclasses.replace(base, method=method, percentile=percentile or base.percentile)
                    for kind in (CPU, TENSORRT):
                        made = write(observed, recipe, kind)
                        every = STRIDE[kind]
                        found = run(bundle, made, kind, public.images[::every], threads)
                        yield {
                            "method": method,
                            "percentile": percentile or None,
                            "plain": plain,
                            "count": calibration.count,
                            "seed": seed,
                            "precision": kind,
                            **score(found, reference[::every], public.labels[::every]),
                        }


def run(bundle: Bundle, content: bytes, kind: str, images: np.ndarray, threads: int | None) -> np.ndarray:
    """Classifies pictures with an INT8 file, in the runtime that the study measures it on."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.onnx").write_bytes(content)
        artefact = describe_file(Path(folder), "model.onnx", "onnx", kind, {})
        made = dataclasses.replace(bundle, path=Path(folder), artefacts=(artefact,))
        with open_backend(made, "openvino" if kind == CPU else "onnx", kind, threads=threads) as backend:
            return predictions(backend, images)


def predictions(backend: Any, images: np.ndarray) -> np.ndarray:
    """Runs pictures of shape (N, 48, 48) through a backend."""
    batches = [np.ascontiguousarray(images[i : i + 128, :, :, None]) for i in range(0, len(images), 128)]
    return np.concatenate([backend.run(batch) for batch in batches])


def score(found: np.ndarray, reference: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Compares with the labels and with the float model."""
    right, before = found.argmax(axis=1) == labels, reference.argmax(axis=1) == labels
    return {
        "n": len(labels),
        "accuracy": float(right.mean()),
        "drift_points": 100 * float(right.mean() - before.mean()),
        "agreement": float((found.argmax(axis=1) == reference.argmax(axis=1)).mean()),
        "mean_abs_difference": float(np.abs(found - reference).mean()),
    }


def describe(row: dict[str, Any]) -> str:
    """Names a method."""
    name = row["method"] + (f" {row['percentile']:g}" if row["percentile"] else "")
    return f"{name}{', plain' if row['plain'] else ''}"


def figures(row: dict[str, Any]) -> str:
    """A row's figures on one line."""
    return f"{row['accuracy']:.2%} ({row['drift_points']:+.2f}), {row['agreement']:.2%} the same top-1"


def groups(rows: list[dict[str, Any]], precision: str) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """Method -> count -> rows of all seeds, best method first."""
    found: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for row in rows:
        if row["precision"] == precision:
            found.setdefault(describe(row), {}).setdefault(row["count"], []).append(row)
    return found


def table(rows: list[dict[str, Any]], machine: Any) -> str:
    """Writes the means over the draws as Markdown."""
    lines = [
        "# Calibration of INT8",
        "",
        f"FER-2013's PublicTest, {len(SEEDS)} draws each, on {machine['cpu']} ({machine['cpu_class']}). In each field:",
        "same top-1 as float32 (lowest of the draws), mean drift of the accuracy in points, mean difference of",
        "probabilities. `plain` is without equalisation and with weights rounded to the nearest.",
    ]
    for precision in (CPU, TENSORRT):
        runtime = "OpenVINO" if precision == CPU else "simulated in ONNX Runtime"
        lines += ["", f"## {precision}, {runtime}", "", "| method |" + "".join(f" {n} pictures |" for n in COUNTS)]
        lines.append("|---|" + "---|" * len(COUNTS))
        for name, by_count in groups(rows, precision).items():
            fields = []
            for count in COUNTS:
                draws = by_count.get(count)
                if not draws:
                    fields.append(" |")
                    continue
                same = min(row["agreement"] for row in draws)
                drift, mean = (np.mean([row[key] for row in draws]) for key in ("drift_points", "mean_abs_difference"))
                fields.append(f" {same:.2%}, {drift:+.2f}, {mean:.4f} |")
            lines.append(f"| {name} |" + "".join(fields))
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]], target: Path) -> None:
    """Draws agreement against the number of pictures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, precision in zip(figure.subplots(1, 2), (CPU, TENSORRT), strict=True):
        for index, (name, by_count) in enumerate(groups(rows, precision).items()):
            means = [100 * np.mean([row["agreement"] for row in draws]) for draws in by_count.values()]
            marker = "x" if name.endswith("plain") else "o"
            axes.plot(list(by_count), means, marker=marker, color=f"C{index % len(METHODS)}", label=name)
        axes.set(xscale="log", xlabel="calibration pictures", ylabel="same top-1 as float32, %", title=precision)
        axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
        axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main()
