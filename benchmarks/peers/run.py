#!/usr/bin/env python3
"""What a user would pick instead, beside fer-deploy: the same pictures, in one run, in turns.

    benchmarks/peers/run.py FOLDER --setup                       # makes the environments in FOLDER, 3.4 GB
    benchmarks/peers/run.py FOLDER --data fer2013.zip --output benchmarks/results/
    benchmarks/peers/run.py FOLDER --rounds 1 --seconds 0.2 --only fer-tflite,benchmark_app     # does it work?

Each peer is a process in an environment of its own that waits until it is its turn. First each one tries its batch
sizes and keeps the fastest, then the rounds begin. Ratios are taken round by round. A peer that cannot run is a row
with its reason. With --data the pictures are FER-2013's PrivateTest and accuracy is measured where weights are real.
Runs in an environment with fer-deploy. --bundle may be given several times and --precision may name several: each
pair is a row of ours, measured in the same rounds; the first one is compared with the peers, whose files are those of
the first bundle.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

import numpy as np  # noqa: E402
from catalogue import ENVIRONMENTS, PEERS, Peer  # noqa: E402
from peak import operations_per_image  # noqa: E402
from protocol import Worker, WorkerError  # noqa: E402
from rounds import markdown, rate, ratio, result_name  # noqa: E402

from fer_deploy.bundle.manifest import Bundle  # noqa: E402
from fer_deploy.data.probe import probe_images  # noqa: E402
from fer_deploy.system.machine import machine_info  # noqa: E402

Row = dict[str, Any]


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--setup", action="store_true")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--bundle", action="append")
    parser.add_argument("--precision", default="int8", help="of our own rows, with commas between: int8,bf16,fp32")
    parser.add_argument("--only", help="peers, separated by commas")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="per peer and round")
    parser.add_argument(
        "--output", type=Path, help="a file, or a folder in which it is named by processor and CPU class"
    )
    args = parser.parse_args()
    chosen = [peer for peer in PEERS if not args.only or peer.name in args.only.split(",")]
    unknown = set((args.only or "").split(",")) - {"", *(peer.name for peer in PEERS)}
    if unknown or args.rounds < 1:
        names = ", ".join(peer.name for peer in PEERS)
        parser.error(f"there is no peer {', '.join(sorted(unknown))}; there are: {names}" if unknown else "no rounds")
    if args.setup:
        return set_up(args.folder.resolve(), {peer.environment for peer in chosen})
    with tempfile.TemporaryDirectory() as work:
        result = measure(args, chosen, Path(work))
    text = json.dumps(result, indent=1)
    if args.output is None:
        print(text)
        return 0
    path = args.output / result_name("peers", result["machine"]) if args.output.is_dir() else args.output
    path.write_text(text + "\n", encoding="utf-8")
    print(table(result))
    print(f"\n{path}")
    return 0


def set_up(folder: Path, environments: set[str]) -> int:
    """Makes the environments that are wanted; those that are there already get what they lack."""
    failed = 0
    wanted = [name for name in ENVIRONMENTS if name in environments]
    if "onnxruntime" in wanted and "keras" not in wanted:
        wanted.append("keras")  # it writes the ONNX files
    for name in wanted:
        python = folder / name / "bin/python"
        print(f"{name}: {folder / name}", flush=True)
        calls = [[str(python), "-m", "pip", "install", "--quiet", *words] for words in ENVIRONMENTS[name]]
        if name == "keras":
            calls.append([str(python), str(HERE / "networks.py"), str(folder / "models")])
        if not python.exists():
            calls.insert(0, [sys.executable, "-m", "venv", str(folder / name)])
        for call in calls:
            if subprocess.run(call).returncode:
                print(f"{name}: failed: {' '.join(call)}", file=sys.stderr)
                failed = 1
                break
    return failed


def measure(args: argparse.Namespace, peers: list[Peer], work: Path) -> Row:
    """Starts the workers, lets each find its batch size, then measures in rounds."""
    bundles = [Bundle.load(name) for name in args.bundle or ["default"]]
    labels, job = make_job(args, bundles[0], work)
    ours = [
        (variant(bundle, precision, bundles), bundle) for bundle in bundles for precision in args.precision.split(",")
    ]
    rows: list[Row] = []
    running: list[tuple[Row, Worker]] = []
    for peer, bundle in [*ours, *((peer, bundles[0]) for peer in peers)]:
        its_job = {**job, "bundle": str(bundle.path)}
        row: Row = {"name": peer.name, "weights": peer.weights, "remark": peer.remark, "unit": peer.unit}
        row |= {"bundle": bundle.name, "precision": peer.option} if peer.worker == "fer_deploy" else {}
        row |= {"status": "ok", "reason": None, "batch": None, "accuracy": None, "n": None, "samples": []}
        rows.append(row)
        print(f"peers: {peer.name}", file=sys.stderr)
        try:
            worker = start(peer, its_job, args.folder.resolve(), work)
            running.append((row, worker))
            row["versions"] = worker.ready["versions"]
            row |= worker.ask(f"tune {args.seconds / 2}")
            if labels is not None and peer.weights != "random" and peer.worker != "benchmark_app":
                worker.ask(f"answers {work / 'answers.npy'}")
                predictions = np.load(work / "answers.npy")
                row |= {"n": len(labels), "accuracy": float((predictions.argmax(axis=1) == labels).mean())}
        except WorkerError as error:
            row |= {"status": "failed", "reason": str(error)}
    for turn in range(args.rounds):
        print(f"peers: round {turn + 1} of {args.rounds}", file=sys.stderr)
        for row, worker in running if turn % 2 == 0 else running[::-1]:
            try:
                if row["status"] == "ok":
                    row["samples"].append(worker.ask(f"run {args.seconds}"))
            except WorkerError as error:
                row |= {"status": "failed", "reason": str(error)}
    for _, worker in running:
        worker.close()
    return {
        "schema": 1,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine_info(),
        "pictures": "PrivateTest" if labels is not None else "drawn pictures",
        "rounds": args.rounds,
        "seconds": args.seconds,
        "operations_per_image": {bundle.name: operations(bundle) for bundle in bundles},
        "rows": compared(rows),
    }


def variant(bundle: Bundle, precision: str, bundles: list[Bundle]) -> Peer:
    """Makes a row of ours; bundles after the first one are named."""
    name = f"fer-deploy {precision}" + (f" {bundle.name}" if bundle is not bundles[0] else "")
    return Peer(name, "", "fer_deploy", "ours", "OpenVINO through our library", precision)


def operations(bundle: Bundle) -> int:
    """Counts what one picture costs a bundle's network."""
    artefact = bundle.find("onnx")
    assert artefact is not None  # every bundle has it
    return operations_per_image(str(bundle.path / artefact.file))


def make_job(args: argparse.Namespace, bundle: Bundle, work: Path) -> tuple[Any, Row]:
    """Writes the pictures where every worker finds them; gives the labels, if there are any, and the job."""
    labels, images = None, np.tile(probe_images(), (10, 1, 1, 1))
    calibration = images
    if args.data:
        from fer_deploy.data.fer2013_reader import load_fer2013

        data = load_fer2013(args.data)
        private, training = data.partition("PrivateTest"), data.partition("Training")
        labels, images = private.labels, private.images[..., np.newaxis]
        calibration = training.images[:: len(training.images) // 512, ..., np.newaxis]
    np.save(work / "pictures.npy", np.ascontiguousarray(images))
    np.save(work / "calibration.npy", np.ascontiguousarray(calibration))
    files = {a.precision if a.format == "onnx" else a.format: str(bundle.path / a.file) for a in bundle.artefacts}
    job = {"folder": str(args.folder.resolve()), "work": str(work), "bundle": str(bundle.path), "files": files}
    return labels, job | {name: str(work / f"{name}.npy") for name in ("pictures", "calibration")}


def start(peer: Peer, job: Row, folder: Path, work: Path) -> Worker:
    """Starts a worker in its environment, which sees fer-deploy only if it is the driver's own."""
    python = folder / peer.environment / "bin/python" if peer.environment else Path(sys.executable)
    if not python.exists():
        raise WorkerError(f"there is no {python}; run: benchmarks/peers/run.py {folder} --setup --only {peer.name}")
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    if not peer.environment:
        env["PYTHONPATH"] = str(HERE.parents[1])
    command = [str(python), str(HERE / "workers.py"), peer.worker, peer.option, json.dumps(job)]
    return Worker(command, work / f"{peer.name.replace(' ', '_')}.log", env)


def compared(rows: list[Row]) -> list[Row]:
    """Adds each row's median rate and, where both have all rounds, how many times as fast the first row is."""
    first = rows[0]
    for row in rows:
        row["per_s"] = rate(row["samples"]) if row["samples"] else None
        both = row["status"] == first["status"] == "ok" and row["unit"] == first["unit"] and row["samples"]
        row["ratio"] = ratio(first["samples"], row["samples"]) if both else None
    return rows


def table(result: Row) -> str:
    """Draws the rows in markdown."""
    lines = []
    for row in result["rows"]:
        speed = row["reason"] or f"{row['per_s']:,.0f}"
        if row["unit"] == "operations" and row["per_s"]:
            speed = f"{row['per_s'] / 1e12:.2f} T operations/s"
        r = row["ratio"]
        times = f"{r['median']:.2f} ({r['min']:.2f} to {r['max']:.2f})" if r else ""
        accuracy = "" if row["accuracy"] is None else f"{row['accuracy']:.2%}"
        lines.append([row["name"], row["weights"], row["batch"] or "", speed, times, accuracy])
    return markdown(["peer", "weights", "batch", "images/s", "fer-deploy is x times as fast", "PrivateTest"], lines)


if __name__ == "__main__":
    sys.exit(main())
