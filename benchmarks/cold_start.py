#!/usr/bin/env python3
"""How long a user waits: process start to end of ``--help`` and of ``infer`` on one picture, beside the bare minimum.

    benchmarks/cold_start.py [--rounds 10] [--json] [--output benchmarks/results/]

The bare minimum for ``infer`` is a script that imports numpy and OpenVINO, loads the model that ``infer`` takes by
itself, and runs it once on zeros. It comes in three forms, from what a user would write to the strictest:

- ``compiling``: plain ``import openvino``; the ONNX file is read and compiled each time;
- ``from a cache``: plain ``import openvino``; the compiled model is read from a file;
- ``strict``: the same, with OpenVINO's converter kept from being imported, as fer-deploy does.

What ``infer`` does beyond them: the command line, checking hashes, reading the picture, the table. Its own cache is
filled in the first round, which is not counted. The commands take turns in rounds, so that noise falls on all alike;
ratios are taken round by round. ``cpu`` is the processor time of all threads, which a busy machine changes least.
``site-packages`` is the size of the folder that this Python's packages lie in.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rounds import markdown, ratio, result_name

from fer_deploy.backends.select import choose
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import UsageError
from fer_deploy.system.machine import machine_info

BARE = """
import sys, numpy, openvino
model = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": sys.argv[2]})
model({0: numpy.zeros((1, 48, 48, 1), numpy.uint8)})
"""
CACHED = """
import io, os, sys, numpy, openvino
core, settings = openvino.Core(), {"INFERENCE_PRECISION_HINT": sys.argv[2], "PERFORMANCE_HINT": "LATENCY"}
if os.path.exists(sys.argv[3]):
    with open(sys.argv[3], "rb") as file:
        model = core.import_model(io.BytesIO(file.read()), "CPU", settings)
else:
    model = core.compile_model(sys.argv[1], "CPU", settings)
    with open(sys.argv[3], "wb") as file:
        file.write(model.export_model().getvalue())
model({0: numpy.zeros((1, 48, 48, 1), numpy.uint8)})
"""
STRICT = 'import sys; sys.modules["openvino.tools.ovc"] = None' + CACHED
INFER = "infer"
BASELINES = ("bare: compiling", "bare: from a cache", "bare: strict")
IMAGE = Path(__file__).resolve().parents[1] / "samples/admiral_48.png"


def commands(bundle: Bundle, place: Path) -> dict[str, list[str]]:
    """Gives what is run, by name.

    Args:
        bundle: Whose model is run.
        place: An empty folder for the cache of the bare script.

    Raises:
        UsageError: ``infer`` would not take OpenVINO here, so that there is nothing to compare it with.
    """
    choice = choose(bundle)
    if choice.backend != "openvino":
        raise UsageError(f"infer takes {choice.backend} here; this compares it with bare OpenVINO alone")
    precision = "fp32" if choice.precision == "bf16" else choice.precision
    file = next(a.file for a in bundle.artefacts if (a.format, a.precision) == ("onnx", precision))
    model = [str(bundle.path / file), "bf16" if choice.precision == "bf16" else "f32", str(place / "blob")]
    python, fer_deploy = [sys.executable, "-c"], [sys.executable, "-m", "fer_deploy"]
    return {
        "python": [*python, "pass"],
        **{name: [*python, code, *model] for name, code in zip(BASELINES, (BARE, CACHED, STRICT), strict=True)},
        INFER: [*fer_deploy, "infer", str(IMAGE), "--bundle", str(bundle.path)],
        "--help": [*fer_deploy, "--help"],
    }


def measure(commands: dict[str, list[str]], rounds: int) -> list[dict[str, Any]]:
    """Runs each command once a round; the first round warms disk and caches and is not counted."""
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            before, started = os.times(), time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seconds, after = time.perf_counter() - started, os.times()
            cpu = after.children_user + after.children_system - before.children_user - before.children_system
            if turn:
                samples[name].append({"n": 1, "seconds": seconds, "cpu_s": cpu})
    return [
        {
            "command": name,
            "median_s": statistics.median(each["seconds"] for each in found),
            "min_s": min(each["seconds"] for each in found),
            "cpu_s": statistics.median(each["cpu_s"] for each in found),
            "infer_takes": ratio(found, samples[INFER]),
            "samples": found,
        }
        for name, found in samples.items()
    ]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--output", type=Path, help="a folder for the result file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        rows = measure(commands(Bundle.load(args.bundle), Path(place)), args.rounds)
    size = sum(path.stat().st_size for path in Path(sysconfig.get_path("purelib")).rglob("*") if path.is_file())
    machine = machine_info()
    date = datetime.now(UTC).date().isoformat()
    result = {"schema": 1, "date": date, "machine": machine, "rows": rows, "site_packages_mb": round(size / 1e6)}
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / result_name("cold_start", machine)).write_text(json.dumps(result) + "\n", encoding="utf-8")
    if args.json:
        print(json.dumps(result))
        return
    cells = []
    for row in rows:
        times = "{median:.2f} ({min:.2f} to {max:.2f})".format(**row["infer_takes"])
        cells.append([row["command"], *(f"{row[key]:.3f}" for key in ("median_s", "min_s", "cpu_s")), times])
    print(markdown(["command", "median s", "min s", "cpu s", "infer takes, times"], cells))
    print(f"site-packages: {result['site_packages_mb']} MB")


if __name__ == "__main__":
    main()
