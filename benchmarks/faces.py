#!/usr/bin/env python3
"""How many faces are found in photos, and what finding them costs in accuracy: real faces pasted where one knows.

    benchmarks/faces.py --data fer2013.zip [--detector yunet] [--limit N] [--json] [--output benchmarks/results/]

FER-2013's test faces are pasted into generated photos of 1280x960 (``pasting.py``), found, cut out and classified.
``found`` is the share of them that a box lies on: its middle within 35 % of the pasted square's side of that square's
middle, its longer side half to one and a half times that side. ``accuracy`` is that of the found ones, ``as crop`` that
of the same faces given to the classifier as they are. ``one look`` is what the network finds by itself: the whole
photo at its full size once, with a threshold that is usual for it. ``wrong`` counts boxes that lie on no face, per
photo. Settings were chosen on PublicTest; PrivateTest's row is for the record. Time is measured by ``faces_speed.py``.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pasting import Kind, Pasted, scenes
from PIL import Image
from rounds import markdown, result_name

from fer_deploy import Classifier
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.faces.align import crop_face
from fer_deploy.faces.catalogue import choose, load
from fer_deploy.faces.detector import LATENCY
from fer_deploy.faces.face import Face
from fer_deploy.system.machine import machine_info

SIZES = (24, 40, 60, 90, 140, 200, 300)
ONE_LOOK_THRESHOLDS = {"centerface": 0.2, "yunet": 0.5}
"""CenterFace's is that of its authors' Python package; YuNet's is lower than OpenCV's own, which finds far fewer."""
ONE_LOOK_EVERY = 6
"""Photos per one that is also looked at in full: it takes longer than all else."""
EXTRA = 1000
"""Faces in each of the rows beside the main ones."""
KINDS = (
    Kind("hard edges", blend=0.0),
    Kind("24 to 40 pixels", sides=(24, 40)),
    Kind("turned 15 to 30 degrees", turns=(15, 30)),
    Kind("turned 30 to 45 degrees", turns=(30, 45)),
)


@dataclass
class Row:
    """What became of one kind of scenes."""

    name: str
    split: str
    n: int = 0
    found: int = 0
    right: int = 0
    right_as_crop: int = 0
    photos: int = 0
    wrong: int = 0
    one_look_n: int = 0
    one_look_found: int = 0
    seconds: float = 0.0
    sizes: dict[str, list[int]] = field(default_factory=dict)
    """Pixels of the pasted side -> how many there were, how many of them were found."""


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="FER-2013, in any form")
    parser.add_argument("--detector", default="centerface", help="centerface, yunet, or an ONNX file of either")
    parser.add_argument("--limit", type=int, help="faces of each split, and of each row beside")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--output", type=Path, help="folder for the result file")
    args = parser.parse_args()
    data = load_fer2013(args.data, tests_only=True)
    detector = load(choose(args.detector))
    name = detector.network.name
    with Classifier.load() as classifier:
        rows = []
        for split in ("PublicTest", "PrivateTest"):
            faces, labels = _some(data.partition(split), args.limit)
            rows.append(measure(detector, classifier, faces, labels, Kind("40 to 300 pixels, up to 15 degrees"), split))
        faces, labels = _some(data.partition("PublicTest"), min(args.limit or EXTRA, EXTRA))
        rows += [measure(detector, classifier, faces, labels, kind, "PublicTest") for kind in KINDS]
    limit = f" --limit {args.limit}" if args.limit else ""
    command = f"benchmarks/faces.py --data fer2013.zip --detector {name}{limit}"
    about = {"schema": 1, "machine": machine_info(), "command": command, "detector": name}
    result = {**about, "rows": [asdict(row) for row in rows]}
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        path = args.output / result_name("faces" if name == "centerface" else f"faces_{name}", machine_info())
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result) if args.json else table(rows))


def measure(detector: Any, classifier: Classifier, faces: Any, labels: Any, kind: Kind, split: str) -> Row:
    """Pastes, finds and classifies.

    Args:
        detector: A ``TwoLooks``.
        classifier: For the crops.
        faces: uint8 (N, 48, 48).
        labels: Their classes (N,).
        kind: What the scenes are made of.
        split: Where the faces come from.
    """
    row, crops, numbers = Row(kind.name, split), [], []
    for index, (image, pasted) in enumerate(scenes(faces, kind, seed=1)):
        started = time.perf_counter()
        found = detector.detect(image)
        row.seconds += time.perf_counter() - started
        gray = np.asarray(Image.fromarray(image).convert("L"))
        of_pasted = matched(pasted, [face.box for face in found])
        for face, number in zip(pasted, of_pasted, strict=True):
            size = f"{max(s for s in SIZES if s <= face.side)}+"
            seen = row.sizes.setdefault(size, [0, 0])
            seen[0] += 1
            seen[1] += number is not None
            if number is not None:
                crops.append(crop_face(gray, found[number]))
                numbers.append(face.number)
        row.photos, row.n = row.photos + 1, row.n + len(pasted)
        row.wrong += len(found) - sum(number is not None for number in of_pasted)
        if index % ONE_LOOK_EVERY == 0:
            alone = [face.box for face in one_look(detector.network, image)]
            row.one_look_n += len(pasted)
            row.one_look_found += sum(number is not None for number in matched(pasted, alone))
    row.found = len(crops)
    if crops:
        truth = np.asarray(labels)[numbers]
        for name, batch in (("right", np.stack(crops)), ("right_as_crop", np.asarray(faces)[numbers])):
            predictions = classifier.predict(batch).probabilities.argmax(axis=1)
            setattr(row, name, int((predictions == truth).sum()))
    row.sizes = dict(sorted(row.sizes.items(), key=lambda item: int(item[0][:-1])))
    return row


def matched(pasted: list[Pasted], boxes: list[Any]) -> list[int | None]:
    """Gives each pasted face the box that lies on it, the first of the list where several do; None without one."""
    free = dict(enumerate(boxes))
    result: list[int | None] = []
    for face in pasted:
        on_it = (
            number
            for number, (x, y, w, h) in free.items()
            if np.hypot(x + w / 2 - face.x, y + h / 2 - face.y) <= 0.35 * face.side
            and 0.5 * face.side <= max(w, h) <= 1.5 * face.side
        )
        result.append(next(on_it, None))
        free.pop(result[-1], None)  # type: ignore[arg-type]
    return result


def one_look(network: Any, image: Any, hint: str = LATENCY) -> list[Face]:
    """Gives what a network finds in a whole photo at its full size; both sides are multiples of 32."""
    (found,) = network.look(image[np.newaxis], ONE_LOOK_THRESHOLDS[network.name], hint)
    return found.distinct().faces()


def table(rows: list[Row]) -> str:
    """Draws the rows."""
    header = ["faces", "split", "n", "found", "one look", "accuracy", "as crop", "points", "wrong per photo", "by side"]
    lines = []
    for row in rows:
        accuracy, as_crop = (100 * hits / max(row.found, 1) for hits in (row.right, row.right_as_crop))
        sizes = ", ".join(f"{size} {found / n:.1%}" for size, (n, found) in row.sizes.items())
        alone = f"{row.one_look_found / row.one_look_n:.1%} of {row.one_look_n}" if row.one_look_n else ""
        scored = f"{accuracy:.1f} %", f"{as_crop:.1f} %", f"{accuracy - as_crop:+.1f}"
        wrong = f"{row.wrong / max(row.photos, 1):.2f}"
        lines.append(
            [row.name, row.split, str(row.n), f"{row.found / max(row.n, 1):.1%}", alone, *scored, wrong, sizes]
        )
    photos, seconds = sum(row.photos for row in rows), sum(row.seconds for row in rows)
    return markdown(header, lines) + f"\n\n{photos / seconds:.1f} photos/s of 1280x960, faces looked for in each alone"


def _some(partition: Any, limit: int | None) -> tuple[Any, Any]:
    order = np.random.default_rng(0).permutation(len(partition))[:limit]
    return np.asarray(partition.images)[order].reshape(-1, 48, 48), np.asarray(partition.labels)[order]


if __name__ == "__main__":
    main()
