#!/usr/bin/env python3
"""How much memory ``infer`` takes at most over a video, however long it is.

    benchmarks/video_memory.py [--seconds 30,300] [--size 1280x720] [--every 0.5s] [--json]
    benchmarks/video_memory.py --seconds 60,3600 --size 320x240 --every 1s      # an hour

Encodes videos (ten pictures per second) in which the portrait of ``samples`` moves, and runs ``fer-deploy infer CLIP
--output x.csv`` over each in a process of its own. ``peak_mib`` is the most memory that it had resident (Linux's
VmHWM). Exit code 1 if the longest takes more than ``--most`` MiB more than the shortest.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
from memory import SAMPLES, peak
from PIL import Image

from fer_deploy.system.machine import machine_info

FPS = 10
KEY_EVERY = 600  # pictures; the fewer whole ones, the sooner it is written


def encode(path: Path, seconds: int, size: tuple[int, int]) -> Path:
    """Makes a video of a face that goes around."""
    with Image.open(SAMPLES / "astronaut.jpg") as original, av.open(str(path), "w") as container:
        face = original.convert("RGB").resize((size[1] // 2, size[1] // 2))
        options = {"preset": "ultrafast", "g": str(KEY_EVERY)}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for n in range(seconds * FPS):
            image = Image.new("RGB", size, (90, 110, 130))
            image.paste(face, (4 * n % (size[0] - face.width), size[1] // 4))
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode(None))
    return path


def measure(seconds: list[int], size: tuple[int, int], every: str) -> list[dict[str, Any]]:
    """Runs each length once."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for each in seconds:
            clip = encode(Path(folder) / f"{each}.mp4", each, size)
            rows.append({"length_s": each, "size": f"{size[0]}x{size[1]}", **peak(clip, "--every", every)})
            clip.unlink()
    return rows


def main() -> int:
    """Measures, prints, and judges."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", default="30,300", help="lengths of the videos, the shortest first")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--every", default="0.5s", help="which pictures are looked at, as infer takes it")
    parser.add_argument("--most", type=float, default=30, help="MiB that the longest may take more than the first")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    rows = measure([int(each) for each in options.seconds.split(",")], (width, height), options.every)
    more = rows[-1]["peak_mib"] - rows[0]["peak_mib"]
    if options.json:
        print(json.dumps({"schema": 1, "machine": machine_info(), "rows": rows}))
    else:
        for row in rows:
            reported = f"{row['peak_mib']:.0f} MiB, {row['n']} rows in {row['seconds']:.1f} s"
            print(f"{row['length_s']:6} s of {row['size']}: {reported}")
    return int(more > options.most)


if __name__ == "__main__":
    sys.exit(main())
