#!/usr/bin/env python3
"""How much memory ``infer`` takes at most, whatever the number and the size of the pictures.

    benchmarks/memory.py [--counts 10000,200000] [--photos 100,1000] [--json] [--output benchmarks/results/]

Makes folders of faces (48x48 PNG) and of photos (6000x4000 JPEG, 24 megapixels) out of the samples, as hard links, and
runs ``fer-deploy infer FOLDER --output x.csv`` over each in a process of its own (the least numbers are more than a
batch, since a single batch needs no second compiled model). ``peak_mib`` is the most memory that
it had resident (Linux's VmHWM). Beside each stands how much more it is than the first of its kind. Exit code 1 if that
is more than ``--most`` MiB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from rounds import markdown, result_name

from fer_deploy.system.machine import machine_info

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
LINKS = 10_000  # file systems allow 32,000 or 65,000 links to a file
MIB = 1 << 10  # in KiB, which Linux counts in
CHILD = """
import sys
from fer_deploy.cli import main
try:
    main()
finally:
    with open("/proc/self/status") as status:
        print(next(line.split()[1] for line in status if line.startswith("VmHWM")), file=sys.stderr)
"""


def photo(width: int = 6000, height: int = 4000) -> bytes:
    """Makes a large JPEG with a photo's contents."""
    buffer = BytesIO()
    with Image.open(SAMPLES / "astronaut.jpg") as original:
        original.convert("RGB").resize((width, height)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def fill(folder: Path, content: bytes, suffix: str, count: int) -> None:
    """Makes a folder of ``count`` pictures, all alike, in little space."""
    folder.mkdir()
    for n in range(count):
        path = folder / f"{n:07}{suffix}"
        if n % LINKS:
            os.link(folder / f"{n - n % LINKS:07}{suffix}", path)
        else:
            path.write_bytes(content)


def peak(folder: Path, *options: str) -> dict[str, Any]:
    """Runs ``infer`` over a folder in a process of its own.

    Args:
        folder: Of pictures; the table is written beside it.
        options: More of ``infer``'s.

    Returns:
        ``n`` (rows of the table), ``peak_mib`` and ``seconds``.

    Raises:
        RuntimeError: It failed.
    """
    table = folder.with_suffix(".csv")
    command = [sys.executable, "-c", CHILD, "infer", str(folder), "--output", str(table), "--quiet", "--strict"]
    started = time.perf_counter()
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[3:])} ended with {done.returncode}: {done.stderr[-500:]}")
    with table.open("rb") as rows:
        count = sum(1 for _ in rows) - 1
    return {"n": count, "peak_mib": int(done.stderr.split()[-1]) / MIB, "seconds": seconds}


def measure(counts: list[int], photos: list[int], bundle: str, size: tuple[int, int] = (6000, 4000)) -> list[Any]:
    """Measures all folders; gives a row each, with ``more_mib``: over the first of its kind."""
    rows: list[dict[str, Any]] = []
    crop = (SAMPLES / "admiral_48.png").read_bytes()
    kinds = ((f"photos of {size[0]}x{size[1]}", photo(*size), ".jpg", photos), ("crops of 48x48", crop, ".png", counts))
    for kind, content, suffix, several in kinds:
        first = None
        for count in several:
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place) / "pictures"
                fill(folder, content, suffix, count)
                row = {"pictures": kind, **peak(folder, "--bundle", bundle)}
            first = row["peak_mib"] if first is None else first
            rows.append(row | {"more_mib": row["peak_mib"] - first})
    return rows


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--counts", type=_numbers, default=[10_000, 200_000])
    parser.add_argument("--photos", type=_numbers, default=[100, 1_000])
    parser.add_argument("--most", type=float, default=50, help="MiB that more pictures may take more")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--output", type=Path, help="a folder for the result file")
    args = parser.parse_args()
    rows, machine = measure(args.counts, args.photos, args.bundle), machine_info()
    result = {"schema": 1, "date": datetime.now(UTC).date().isoformat(), "machine": machine, "rows": rows}
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / result_name("memory", machine)).write_text(json.dumps(result) + "\n", encoding="utf-8")
    if args.json:
        print(json.dumps(result))
    else:
        cells = [
            [r["pictures"], f"{r['n']:,}", f"{r['peak_mib']:.0f}", f"{r['more_mib']:+.0f}", f"{r['seconds']:.0f}"]
            for r in rows
        ]
        print(markdown(["pictures", "count", "peak MiB", "more MiB", "s"], cells))
    return int(any(row["more_mib"] > args.most for row in rows))


if __name__ == "__main__":
    sys.exit(main())
