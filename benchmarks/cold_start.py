#!/usr/bin/env python3
"""How long a user waits: process start to end of ``--help`` and of ``infer`` on one picture, beside the bare minimum.

    benchmarks/cold_start.py [--rounds 10] [--json]

The bare minimum for ``infer`` is a script that imports numpy and OpenVINO, reads the same model, compiles it and
runs it once. The commands take turns in rounds, so that noise falls on all alike. ``size`` is that of the folder
that this Python's packages lie in.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from fer_deploy.bundle import Bundle
from fer_deploy.machine import machine_info

BARE = """
import sys, numpy, openvino
model = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
model({0: numpy.zeros((1, 48, 48, 1), numpy.uint8)})
"""


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    samples = Path(__file__).resolve().parents[1] / "samples"
    picture = next(path for path in sorted(samples.iterdir()) if path.suffix in (".jpg", ".png"))
    bundle = Bundle.load()
    model = next(a.file for a in bundle.artefacts if (a.format, a.precision) == ("onnx", "fp32"))
    fer_deploy = [sys.executable, "-m", "fer_deploy"]
    commands = {
        "python alone": [sys.executable, "-c", "pass"],
        "fer-deploy --help": [*fer_deploy, "--help"],
        "bare OpenVINO, one picture": [sys.executable, "-c", BARE, str(bundle.path / model)],
        "fer-deploy infer, one picture": [*fer_deploy, "infer", str(picture)],
    }
    seconds = measure(commands, args.rounds)
    rows = [{"command": name, "median_s": statistics.median(s), "min_s": min(s), "samples_s": s} for name, s in seconds]
    size = sum(path.stat().st_size for path in Path(sysconfig.get_path("purelib")).rglob("*") if path.is_file())
    result = {"schema": 1, "machine": machine_info(), "rows": rows, "site_packages_mb": round(size / 1e6)}
    if args.json:
        print(json.dumps(result))
        return
    for row in rows:
        print(f"{row['command']:32} median {row['median_s']:6.3f} s   min {row['min_s']:6.3f} s")
    print(f"{'site-packages':32} {result['site_packages_mb']} MB")


def measure(commands: dict[str, list[str]], rounds: int) -> list[tuple[str, list[float]]]:
    """Runs each command once a round; the first round warms the disk and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return list(seconds.items())


if __name__ == "__main__":
    main()
