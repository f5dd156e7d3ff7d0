#!/usr/bin/env python3
"""How many photos per second are searched for faces, where the time goes, and what faster ways would miss.

    benchmarks/faces_speed.py --data fer2013.zip [--detector centerface --detector yunet] [--photos 40] [--rounds 5]
                              [--int8] [--json] [--output benchmarks/results/]

Photos of 1280x960 with one face or six of PublicTest (``pasting.py``) are written as JPEG and read back. ``photos/s``
is the whole way from the folder to CSV as ``infer --face detect`` goes it, all cores at work, in rounds in which all
ways take turns. ``found`` is the share of the faces, counted as in ``faces.py``. Ways are: as ``infer`` looks; for
faces from 40 and from 80 pixels alone; one look at the full size; and, with ``--int8``, the network quantised by ONNX
Runtime on eight other photos (8 bits per channel, min-max).

The stages are timed photo by photo, each with all cores: ``first`` and ``second`` look, ``cut`` and ``classify``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from faces import matched, one_look
from pasting import Kind, Pasted, scenes
from PIL import Image
from rounds import markdown, rate, ratio, result_name

from fer_deploy.backends.base import Backend
from fer_deploy.backends.select import open_backend
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.faces.align import crop_face
from fer_deploy.faces.catalogue import Chosen, choose, load
from fer_deploy.faces.detector import Detector, TwoStageDetector
from fer_deploy.faces.face import Candidates, Face
from fer_deploy.images.decode import decode_photo
from fer_deploy.images.sources import Sources
from fer_deploy.inference.face_reader import PhotoReader
from fer_deploy.inference.run import Summary, run
from fer_deploy.inference.sinks.text import table_sink
from fer_deploy.system.machine import machine_info

USUAL = "as infer"
FACES = (1, 6)
LARGER = (40, 80)
STAGES = ("decode", "first look", "second look", "cut", "classify")
Scene = tuple[Path, list[Pasted]]


class OneLook(Detector):
    """The network on the whole photo at its full size, without the second look."""

    def __init__(self, network: Any) -> None:
        self.network = network

    def detect(self, image: Any, hint: str = "LATENCY") -> list[Face]:
        return one_look(self.network, image, hint)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="FER-2013, in any form")
    parser.add_argument("--detector", action="append", help="centerface, yunet, or an ONNX file of either; repeatable")
    parser.add_argument("--photos", type=int, default=40, help="of each kind")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--int8", action="store_true", help="quantise, too; needs fer-deploy[onnx] and [export]")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--output", type=Path, help="folder for the result file")
    args = parser.parse_args()
    faces = np.asarray(load_fer2013(args.data, tests_only=True).partition("PublicTest").images).reshape(-1, 48, 48)
    faces = faces[np.random.default_rng(3).permutation(len(faces))]
    others = [image for image, _ in scenes(faces[-48:], Kind("calibration"), most=6, seed=9)] if args.int8 else []
    detectors = {chosen.network.name: chosen for chosen in map(choose, args.detector or ["centerface"])}
    ways = {f"{name}, {how}": way for name, chosen in detectors.items() for how, way in ways_of(chosen, others).items()}
    rows = []
    with tempfile.TemporaryDirectory() as folder, open_backend(Bundle.load(None)) as backend:
        for count in FACES:
            drawn = draw(Path(folder) / str(count), faces[: count * args.photos], count)
            rows += measure(drawn, ways, backend, args.rounds, count)
    command = f"benchmarks/faces_speed.py --data fer2013.zip --photos {args.photos} --rounds {args.rounds}"
    command += "".join(f" --detector {name}" for name in detectors) + " --int8" * args.int8
    result = {"schema": 1, "machine": machine_info(), "command": command, "rows": rows}
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        path = args.output / result_name("faces_speed", machine_info())
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result) if args.json else table(rows))


def ways_of(chosen: Chosen, others: list[Any]) -> dict[str, Detector]:
    """Gives the ways of one detector; int8 if there are photos to calibrate it on."""
    usual = load(chosen)
    ways: dict[str, Detector] = {USUAL: usual}
    ways |= {f"from {smallest} pixels": TwoStageDetector(usual.network, smallest) for smallest in LARGER}
    ways["one look"] = OneLook(usual.network)
    if others:
        from faces_int8 import quantised

        content = quantised(chosen.content, others, blue_first=chosen.network.name == "yunet")
        ways["int8"] = load(chosen._replace(content=content, what=f"{chosen.what} in int8"))
    return ways


def draw(folder: Path, faces: Any, count: int) -> list[Scene]:
    """Writes photos with ``count`` faces each."""
    folder.mkdir(parents=True)
    drawn = []
    for number, (image, pasted) in enumerate(scenes(faces, Kind("40 to 300 pixels"), most=count, seed=4)):
        path = folder / f"{number:04}.jpg"
        Image.fromarray(image).save(path, quality=90)
        drawn.append((path, pasted))
    return drawn


def measure(
    drawn: list[Scene], ways: dict[str, Detector], backend: Backend, rounds: int, count: int
) -> list[dict[str, Any]]:
    """Lets all ways take turns over one folder.

    Args:
        drawn: The photos and what is in them.
        ways: What looks, by name; the first one is what the others are compared with.
        backend: For the faces.
        rounds: How often each takes its turn.
        count: Faces per photo.
    """
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, detector in ways.items():
            seconds = timed(lambda detector=detector: to_csv(drawn[0][0].parent, detector, backend))
            if turn:  # the first round is warm-up
                samples[name].append({"n": len(drawn), "seconds": seconds})
    first = next(iter(ways))
    return [
        {
            "way": name,
            "faces_per_photo": count,
            "photos_per_s": rate(samples[name]),
            "over_first": ratio(samples[name], samples[first]),
            "found": found_share(drawn, detector),
            "stages_ms": stages(drawn, detector, backend) if isinstance(detector, TwoStageDetector) else {},
            "samples": samples[name],
        }
        for name, detector in ways.items()
    ]


def to_csv(folder: Path, detector: Detector, backend: Backend) -> None:
    """Does what ``fer-deploy infer FOLDER --face detect --output x.csv`` does once all is loaded."""
    table = table_sink(os.fspath(folder.with_suffix(".csv")), overwrite=True)
    reader = PhotoReader("detect", detector)
    run(Sources([folder], reader.readers), backend, [table], Summary(backend), backend.batch)


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def found_share(drawn: list[Scene], detector: Detector) -> float:
    """Counts as ``faces.py`` does."""
    found = [
        number is not None
        for path, pasted in drawn
        for number in matched(pasted, [face.box for face in detector.detect(whole(path).pixels)])
    ]
    return sum(found) / len(found)


def whole(path: Path) -> Any:
    return decode_photo(os.fspath(path), lambda width, height: False)


def stages(drawn: list[Scene], detector: TwoStageDetector, backend: Backend) -> dict[str, float]:
    """Times what is done with a photo, one thing after the other; gives the median of each in milliseconds."""
    times: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for path, _ in drawn:
        at = [time.perf_counter()]
        pixels = whole(path).pixels
        at.append(time.perf_counter())
        image = Image.fromarray(pixels)
        first: Candidates = detector.first_look(image)
        at.append(time.perf_counter())
        faces = detector.second_look(image, first).faces()
        at.append(time.perf_counter())
        gray = np.asarray(image.convert("L"))
        crops = [crop_face(gray, face) for face in faces]
        at.append(time.perf_counter())
        if crops:
            backend.run(np.stack(crops))
        at.append(time.perf_counter())
        for stage, seconds in zip(STAGES, np.diff(at), strict=True):
            times[stage].append(float(seconds))
    return {stage: 1000 * statistics.median(seconds) for stage, seconds in times.items()}


def table(rows: list[dict[str, Any]]) -> str:
    """Draws the rows."""
    header = ["way", "faces", "photos/s", "times the first", "found", *(f"{stage}, ms" for stage in STAGES)]
    lines = []
    for row in rows:
        spent = row["stages_ms"]
        cells = [f"{spent[stage]:.1f} ({spent[stage] / sum(spent.values()):.0%})" if spent else "" for stage in STAGES]
        over = row["over_first"]
        times = f"{over['median']:.2f} ({over['min']:.2f} to {over['max']:.2f})"
        count, found = str(row["faces_per_photo"]), f"{row['found']:.1%}"
        lines.append([row["way"], count, f"{row['photos_per_s']:.1f}", times, found, *cells])
    return markdown(header, lines)


if __name__ == "__main__":
    main()
