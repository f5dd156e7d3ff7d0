"""Kills ``fer-deploy infer`` at random moments, resumes it, and compares with the table of a run that was left alone.

    python tests/tools/kill_and_resume.py --images 5000 --kills 10 --suffix csv --suffix jsonl --suffix parquet

A round begins anew, kills the run (SIGKILL) at a moment drawn between the first row and the end, then resumes it to the
end; one round in three is killed a second time while it resumes. Rows and their order must be those of the
uninterrupted run exactly, probabilities to 1e-4. Exit code 1 if any round fails.

With --clip SECONDS there is a video among the pictures, ten pictures per second, each a row, so that with few pictures
the kills come in the middle of it:

    python tests/tools/kill_and_resume.py --images 20 --clip 600 --kills 10 --suffix csv --suffix parquet
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
NUMBERS = ("confidence", "angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "face_score")


def draw(folder: Path, count: int, seed: int = 0) -> None:
    """Makes small pictures in two folders, of which one in fifty cannot be read."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        path = folder / ("a", "b")[2 * index // count] / f"{index:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if index % 50 == 7:
            path.write_bytes(b"\x89PNG\r\n\x1a\n, and no more")
        else:
            Image.fromarray(rng.integers(0, 256, (48, 48), dtype=np.uint8)).save(path, compress_level=0)


def encode(path: Path, seconds: int, seed: int = 0) -> None:
    """Makes a video of noise that changes slowly, ten small pictures per second."""
    import av

    rng = np.random.default_rng(seed)
    start, end = rng.integers(0, 256, (2, 96, 96, 3)).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"
        for number in range(10 * seconds):
            share = 0.5 + 0.5 * np.sin(number / 17)
            image = (share * start + (1 - share) * end).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        import csv

        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".jsonl":
        import json

        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    from pyarrow.parquet import read_table

    return list(read_table(path).to_pylist())


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> str:
    """Returns what differs first; empty when nothing does."""
    if len(found) != len(expected):
        return f"{len(found)} rows, not {len(expected)}"
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        if list(one) != list(other):
            return f"row {index} has other columns"
        for name, value in other.items():
            near = name in NUMBERS and value not in (None, "") and one[name] not in (None, "")
            if abs(float(one[name]) - float(value)) > 1e-4 if near else one[name] != value:
                return f"row {index}, {name}: {one[name]!r}, not {value!r}"
    return ""


class Runs:
    """Runs of the command over one folder."""

    def __init__(self, folder: Path, options: list[str]) -> None:
        self.line = [sys.executable, "-m", "fer_deploy", "infer", str(folder), "--quiet", *options]
        self.env = os.environ | {"PYTHONPATH": str(ROOT)}

    def whole(self, output: Path, *options: str) -> float:
        """Runs to the end; returns how long it took, in seconds."""
        started = time.monotonic()
        done = subprocess.run(
            [*self.line, "--output", str(output), *options], env=self.env, capture_output=True, text=True, timeout=600
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(done.args)} failed:\n{done.stderr}")
        return time.monotonic() - started

    def killed(self, output: Path, after_s: float, *options: str) -> bool:
        """Kills a run some time after its journal appeared; returns False if it was done before."""
        process = subprocess.Popen([*self.line, "--output", str(output), *options], env=self.env)
        resume_state = Path(f"{output}.resume.json")
        until = time.monotonic() + 120
        while process.poll() is None and not (resume_state.exists() and began(output)) and time.monotonic() < until:
            time.sleep(0.002)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after_s)
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


def began(output: Path) -> bool:
    return output.exists() or Path(f"{output}.parts").is_dir()


def left_in(output: Path) -> int:
    """Counts the rows that a killed run has left, the header among them."""
    if output.suffix != ".parquet":
        return output.read_bytes().count(b"\n") if output.exists() else 0
    from pyarrow.parquet import read_metadata

    parts = [output] if output.exists() else Path(f"{output}.parts").glob("part-*.parquet")
    return sum(read_metadata(part).num_rows for part in parts)


def rounds(folder: Path, suffix: str, kills: int, seed: int, options: list[str]) -> Iterator[str]:
    """Yields what went wrong in each round; empty when nothing did."""
    runs, chance = Runs(folder, options), random.Random(seed)
    expected_at = folder.parent / f"expected.{suffix}"
    loading = runs.whole(folder.parent / f"first.{suffix}", "--overwrite")  # fills caches
    loading = runs.whole(expected_at, "--overwrite")
    expected = rows(expected_at)
    for number in range(kills):
        output = folder.parent / f"killed-{number}.{suffix}"
        alive = 0
        while not runs.killed(output, chance.uniform(0, loading / 2), "--overwrite"):
            alive += 1
            if alive > 20:
                raise SystemExit("the runs are over too soon to be killed: more pictures are needed")
        print(f"{suffix}: killed with {left_in(output)} rows written", flush=True)
        if number % 3 == 2:
            runs.killed(output, chance.uniform(0, loading / 4), "--resume")
        left = Path(f"{output}.resume.json").exists()
        runs.whole(output, "--resume")
        wrong = same(rows(output), expected)
        yield wrong if left or wrong else ""
        litter = [path for path in folder.parent.iterdir() if path.name.startswith((output.name + ".", "."))]
        if litter:
            yield f"left behind: {litter}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--suffix", action="append", choices=("csv", "jsonl", "parquet"))
    parser.add_argument("--clip", type=int, metavar="SECONDS", help="length of a video among the pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--option", action="append", default=[], help="more for infer, such as --option=--face=detect")
    chosen = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as where:
        draw(Path(where) / "pictures", chosen.images)
        if chosen.clip:
            encode(Path(where) / "pictures/a/000001.mp4", chosen.clip)  # behind a few pictures, before the others
            chosen.option += ["--every=1f", "--face=crop"]
        for suffix in chosen.suffix or ["csv"]:
            results = list(rounds(Path(where) / "pictures", suffix, chosen.kills, chosen.seed, chosen.option))
            failed += sum(map(bool, results))
            for wrong in filter(None, results):
                print(f"{suffix}: {wrong}")
            print(f"{suffix}: {results.count('')} of {chosen.kills} resumed tables equal the uninterrupted one")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
