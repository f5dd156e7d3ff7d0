#!/usr/bin/env python3
"""A folder of pictures to CSV: what share of its limits it reaches, and where the time goes per picture.

    benchmarks/folder_profile.py [--crops 10000] [--photos 1000] [--rounds 5] [--json] [--output benchmarks/results/]

Crops are faces of 48x48 as PNG, photos are of 640x480 as JPEG, each taken as one face. In each round take turns: the
folder to CSV, decoding alone on the same cores (by one thread or by several, whichever is faster), and the model alone.
``share`` is the first over the slower of the two. Decoding and the model want the same cores, so their work adds up:
``one after the other`` is the rate of the two in turns.

The stages are timed one at a time in a single thread, in CPU time; ``the rest`` is what the whole run takes beyond
them: handing over between threads, and their waiting for Python's lock.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rounds import rate, ratio, result_name

from fer_deploy.backends.base import Backend
from fer_deploy.backends.select import open_backend
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.images.file_kinds import open_regular
from fer_deploy.images.sources import Sources
from fer_deploy.inference.prediction import Prediction
from fer_deploy.inference.run import Summary, run
from fer_deploy.inference.sinks.text import table_sink
from fer_deploy.system.machine import machine_info

BATCH = 64
AT_ONCE = 512  # pictures that a stage is timed on
SAMPLES = Path(__file__).resolve().parents[1] / "samples"


def contents() -> dict[str, tuple[str, bytes]]:
    """Gives per kind the suffix and one picture's content."""
    buffer = BytesIO()
    with Image.open(SAMPLES / "astronaut.jpg") as photo:
        photo.convert("RGB").resize((640, 480)).save(buffer, "JPEG", quality=90)
    return {"crops": (".png", (SAMPLES / "admiral_48.png").read_bytes()), "photos": (".jpg", buffer.getvalue())}


def to_csv(folder: Path, backend: Backend) -> None:
    """Does what ``fer-deploy infer FOLDER --output x.csv`` does once the model is loaded."""
    table = table_sink(str(folder.with_suffix(".csv")), overwrite=True)
    run(Sources([folder]), backend, [table], Summary(backend), BATCH)


def decode_alone(folder: Path, workers: int) -> None:
    """Decodes with as many threads; without any where it is one."""
    if workers == 1:
        for source in Sources([folder]):
            source.read()
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(lambda source: source.read(), Sources([folder]), chunksize=BATCH):
            pass


def best_workers(folder: Path) -> int:
    """Chooses between one thread and as many as the pipeline has: tiny pictures are done sooner by one."""
    several = min(8, os.cpu_count() or 1)
    return min((1, several), key=lambda workers: sample(lambda: decode_alone(folder, workers), 1)["seconds"])


def model_alone(count: int, backend: Backend) -> None:
    """Runs as many pictures as the folder has, in the same batches."""
    batch = np.random.default_rng(0).integers(0, 256, (BATCH, 48, 48, 1), dtype=np.uint8)
    for _ in backend.run_stream(batch[: min(BATCH, count - start)] for start in range(0, count, BATCH)):
        pass


def sample(call: Callable[[], object], count: int) -> dict[str, float]:
    """Times a call by the clock and by the CPU time of all threads."""
    cpu, started = time.process_time(), time.perf_counter()
    call()
    return {"n": count, "seconds": time.perf_counter() - started, "cpu_s": time.process_time() - cpu}


def measure(folder: Path, backend: Backend, rounds: int) -> dict[str, Any]:
    """Takes turns; gives the samples, the share of the slower limit, and the rate of both one after the other."""
    count = sum(1 for _ in folder.iterdir())
    workers = best_workers(folder)
    calls: dict[str, Callable[[], None]] = {
        "to csv": lambda: to_csv(folder, backend),
        "decode alone": lambda: decode_alone(folder, workers),
        "model alone": lambda: model_alone(count, backend),
    }
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            found = sample(call, count)
            if turn:  # the first round is warm-up
                samples[name].append(found)
    both = [
        {"n": count, "seconds": a["seconds"] + b["seconds"]}
        for a, b in zip(samples["decode alone"], samples["model alone"], strict=True)
    ]
    slower = min(("decode alone", "model alone"), key=lambda name: rate(samples[name]))
    return {
        "folder": folder.name,
        "n": count,
        "decoding_threads": workers,
        "images_per_s": {name: rate(found) for name, found in samples.items()} | {"one after the other": rate(both)},
        "slower": slower,
        "share": ratio(samples["to csv"], samples[slower]),
        "share_of_both": ratio(samples["to csv"], both),
        "cpu_us": {name: 1e6 * _median(found, "cpu_s") / count for name, found in samples.items()},
        "stages_us": stages(folder),
        "samples": samples,
    }


def stages(folder: Path) -> dict[str, float]:
    """Times what a picture goes through besides the model, one thread, CPU microseconds per picture."""
    sources = list(Sources([folder]))[:AT_ONCE]
    pixels = [source.read() for source in sources]
    rows = np.random.default_rng(0).dirichlet(np.ones(7), len(sources)).astype(np.float32)
    predictions = [Prediction.of(source.name, row) for source, row in zip(sources, rows, strict=True)]

    def write() -> None:
        with table_sink(str(folder.with_suffix(".csv")), overwrite=True) as table:
            for prediction in predictions:
                table.write(prediction)

    def opened() -> None:
        for source in sources:
            open_regular(source.name).close()

    everything = sum(1 for _ in folder.iterdir())
    reading = _cpu_us(opened, len(sources))
    return {
        "finding files": _cpu_us(lambda: list(Sources([folder])), everything),
        "opening and reading": reading,
        "decoding": _cpu_us(lambda: [source.read() for source in sources], len(sources)) - reading,
        "putting batches together": _cpu_us(lambda: np.concatenate(pixels), len(sources)),
        "predictions": _cpu_us(lambda: [Prediction.of("", row) for row in rows], len(sources)),
        "rows to csv": _cpu_us(write, len(sources)),
    }


def _cpu_us(call: Callable[[], object], count: int, times: int = 7) -> float:
    return 1e6 * statistics.median(sample(call, count)["cpu_s"] for _ in range(times)) / count


def _median(samples: list[dict[str, float]], key: str) -> float:
    return statistics.median(each[key] for each in samples)


def draw(row: dict[str, Any]) -> str:
    """Draws both tables of a folder."""
    share, both, cpu = row["share"], row["share_of_both"], row["cpu_us"]
    lines = [f"{row['n']} {row['folder']}"]
    lines += [f"  {name:28}{rate:10,.0f} images/s" for name, rate in row["images_per_s"].items()]
    for what, found in ((f"share of {row['slower']}", share), ("share of one after the other", both)):
        lines.append(f"  {what:28}{found['median']:10.0%}  ({found['min']:.0%} to {found['max']:.0%})")
    known = {**row["stages_us"], "model": cpu["model alone"]}
    for name, value in {**known, "the rest": cpu["to csv"] - sum(known.values()), "all": cpu["to csv"]}.items():
        lines.append(f"  {name:28}{value:10.1f} us CPU per picture")
    return "\n".join(lines)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--crops", type=int, default=10_000)
    parser.add_argument("--photos", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--output", type=Path, help="a folder for the result file")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place, open_backend(Bundle.load(args.bundle)) as backend:
        for kind, (suffix, content) in contents().items():
            folder = Path(place) / kind
            folder.mkdir()
            for n in range(getattr(args, kind)):
                (folder / f"{n:06}{suffix}").write_bytes(content)
            rows.append(measure(folder, backend, args.rounds))
            if not args.json:
                print(draw(rows[-1]), flush=True)
        variant = {"runtime": backend.runtime, "precision": backend.precision, "effective": backend.effective}
    machine = machine_info()
    result = {
        "schema": 1,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine,
        "form": variant,
        "rows": rows,
    }
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / result_name("folder_profile", machine)).write_text(json.dumps(result) + "\n", encoding="utf-8")
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
