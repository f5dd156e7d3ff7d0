#!/usr/bin/env python3
"""How fast networks of other shapes would be here: random weights, our own int8 files, OpenVINO, in turns.

    benchmarks/shapes.py --output benchmarks/results/             # the shapes in shapes.toml
    benchmarks/shapes.py --shapes mine.toml --trained runs/pilot_* --rounds 3

The speed of a shape needs no training; what it costs in accuracy does: train one recipe with each shape
(``fer-deploy train``) and name the folders with --trained: the shape that one has gets its accuracy on PublicTest.
Shares of the peak are of the fastest matrix product of int8 in the same rounds. Needs the extra `export`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "peers"), str(HERE.parent)]

import numpy as np  # noqa: E402
from peak import operations_per_image  # noqa: E402
from protocol import Runner  # noqa: E402
from rounds import markdown, rate, ratio, result_name  # noqa: E402
from workers import matrix_peak  # noqa: E402

from fer_deploy.backends.openvino import shared_core  # noqa: E402
from fer_deploy.data.probe import probe_images  # noqa: E402
from fer_deploy.errors import FerDeployError, UsageError  # noqa: E402
from fer_deploy.exporting.int8.graph import CPU  # noqa: E402
from fer_deploy.system.machine import machine_info  # noqa: E402
from fer_deploy.system.toml import build, read_toml  # noqa: E402
from fer_deploy.training.recipe import Shape  # noqa: E402

Row = dict[str, Any]


def name_of(shape: Shape) -> str:
    """Names what speed depends on: ``32-64-128-256 stride 1, 2 unpadded, dense 256``."""
    widths = "-".join(map(str, shape.widths))
    return f"{widths} stride {shape.stem_stride}, {shape.unpadded} unpadded, dense {shape.dense_units}"


def load_shapes(path: Path) -> list[Shape]:
    """Reads a TOML file of ``[[shape]]`` tables with arguments of ``build_model``.

    Raises:
        UsageError: It is unreadable, or has no shape, an unknown key, or the same one twice.
    """
    tables = read_toml(path, "The list of shapes", UsageError).get("shape")
    if not isinstance(tables, list) or not tables:
        raise UsageError(f"{path} has no shape: write [[shape]] and under it widths = [16, 32, 64, 128]")
    try:
        shapes = [build(Shape, table) for table in tables]
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is wrong: {error}") from error
    if len({name_of(shape) for shape in shapes}) < len(shapes):
        raise UsageError(f"{path} has the same shape twice")
    return shapes


def trained_accuracy(folders: list[Path]) -> dict[str, Row]:
    """Reads what trainings reached on PublicTest; the best counts where several have one shape.

    Args:
        folders: With ``metrics.json``, as ``fer-deploy train`` writes it.

    Returns:
        Per shape's name ``public_test`` (a fraction) and ``epochs``.
    """
    found: dict[str, Row] = {}
    for folder in folders:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        name = name_of(build(Shape, metrics["recipe"]["model"]))
        accuracy = metrics["summary"]["accuracy"]["PublicTest"]
        if accuracy > found.get(name, {}).get("public_test", -1):
            found[name] = {"public_test": accuracy, "epochs": metrics["summary"]["epochs"]}
    return found


def make(shape: Shape, folder: Path) -> Row:
    """Builds a network with random weights and writes its ONNX files, fp32 and int8, as export makes them.

    Returns:
        ``parameters``, ``operations`` (per picture, the padding's zeros left out) and the path of the ``int8`` file.
    """
    from fer_deploy.exporting import onnx
    from fer_deploy.exporting.export_recipe import Quantisation
    from fer_deploy.exporting.int8.quantise import quantise
    from fer_deploy.exporting.onnx import import_toolchain
    from fer_deploy.training.model import build_model

    tools = import_toolchain()
    tools.keras.utils.set_random_seed(0)
    model = build_model(**dataclasses.asdict(shape))
    float32 = onnx.convert(model, "0" * 64, tools)
    files = {kind: folder / f"{name_of(shape)}.{kind}.onnx" for kind in ("fp32", "int8")}
    files["fp32"].write_bytes(float32)
    files["int8"].write_bytes(quantise(float32, probe_images(), Quantisation(rounding="nearest"), [CPU])[CPU])
    operations = operations_per_image(str(files["fp32"]))
    return {"parameters": model.count_params(), "operations": operations, "int8": str(files["int8"])}


def runner(path: str) -> Runner:
    """Prepares an int8 file for measuring, on all of OpenVINO's streams."""
    import openvino

    hints = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": "f32",
    }  # else bf16 beside int8 where there is AMX
    model = shared_core().compile_model(path, "CPU", hints)
    queue = openvino.AsyncInferQueue(model, 2 * model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    images = np.tile(probe_images(), (4, 1, 1, 1))[:256]

    def timed(seconds: float, batch: int) -> tuple[float, float]:
        part, count, started = images[:batch], 0, time.perf_counter()
        while not count or time.perf_counter() < started + seconds:
            queue.start_async({0: part}, share_inputs=True)
            count += len(part)
        queue.wait_all()
        return count, time.perf_counter() - started

    return Runner(batches=(32, 64, 128), timed=timed)


def measure(shapes: list[Shape], rounds: int, seconds: float) -> list[Row]:
    """Makes all networks, finds each one's best batch size, and measures them in turns, the peak among them."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [{"shape": name_of(shape), **make(shape, Path(folder))} for shape in shapes]
        runners = [runner(row.pop("int8")) for row in rows]
    runners.append(matrix_peak("int8", {}))
    rows.append({"shape": "peak"})
    for row, each in zip(rows, runners, strict=True):
        rates = {batch: _rate(each, seconds / 2, batch) for batch in each.batches}
        row |= {"batch": max(rates, key=lambda batch: rates[batch]), "samples": []}
    for turn in range(rounds):
        for row, each in list(zip(rows, runners, strict=True))[:: 1 if turn % 2 == 0 else -1]:
            n, took = each.run(seconds, row["batch"])
            row["samples"].append({"n": n, "seconds": took})
    peak = rows.pop()
    for row in rows:
        row["images_per_s"] = rate(row["samples"])
        row["peak_share"] = row["operations"] * ratio(row["samples"], peak["samples"])["median"]
    return rows


def _rate(each: Runner, seconds: float, batch: int) -> float:
    each.run(0, batch)  # the first call of a size compiles
    n, took = each.run(seconds, batch)
    return n / took


def table(result: Row) -> str:
    """Draws the shapes in markdown, the fastest first."""
    cells = []
    for row in sorted(result["rows"], key=lambda row: -row["images_per_s"]):
        accuracy = "" if row["public_test"] is None else f"{row['public_test']:.2%} ({row['epochs']} epochs)"
        size = (f"{row['operations'] / 1e6:,.0f}", f"{row['parameters']:,}")
        cells.append([row["shape"], *size, f"{row['images_per_s']:,.0f}", f"{row['peak_share']:.0%}", accuracy])
    columns = ["shape", "M operations", "parameters", "images/s", "share of the int8 peak", "PublicTest"]
    return markdown(columns, cells)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=Path, default=HERE / "shapes.toml")
    parser.add_argument("--trained", type=Path, nargs="+", default=[], help="folders of finished trainings")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.0, help="per shape and round")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--output", type=Path, help="a file for the JSON, or a folder in which it is named")
    args = parser.parse_args()
    os.environ["KERAS_BACKEND"] = "tensorflow"  # that is what export converts from
    try:
        known = trained_accuracy(args.trained)
        rows = measure(load_shapes(args.shapes), max(1, args.rounds), args.seconds)
    except FerDeployError as error:
        sys.exit(f"shapes.py: {error}")
    rows = [{**row, **known.get(row["shape"], {"public_test": None, "epochs": None})} for row in rows]
    about = {"schema": 1, "date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": machine_info()}
    result = {**about, "rounds": args.rounds, "seconds": args.seconds, "rows": rows}
    text = json.dumps(result, indent=1)
    print(text if args.json else table(result))
    if args.output:
        folder = args.output.is_dir()
        path = args.output / result_name("shapes", about["machine"]) if folder else args.output
        path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
