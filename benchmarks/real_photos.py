#!/usr/bin/env python3
"""What detectors find in real pictures of clear licence: those that scikit-image and matplotlib carry with them.

    pip install scikit-image matplotlib
    benchmarks/real_photos.py [--detector centerface --detector yunet] [--json] [--output benchmarks/results/]

Three of them show one face each, the others (textures, animals, galaxies, a rocket, documents, a workshop) none. A box
counts as found if its middle lies within the face, which was marked by hand. All other boxes are wrong ones.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rounds import markdown, result_name

from fer_deploy import Classifier
from fer_deploy.errors import FerDeployError
from fer_deploy.system.machine import machine_info

FOLDERS = {"skimage": "data", "matplotlib": "mpl-data/sample_data"}
SUFFIXES = (".png", ".jpg")
FACES = {
    "skimage/astronaut.png": (180, 62, 91, 116),
    "skimage/camera.png": (195, 95, 70, 105),
    "matplotlib/grace_hopper.jpg": (190, 140, 145, 190),
}
"""Left edge, upper edge, width and height, in pixels."""

Row = dict[str, Any]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", action="append", help="centerface, yunet, or an ONNX file of either")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--output", type=Path, help="a file for the JSON, or a folder in which it is named")
    args = parser.parse_args()
    try:
        rows = [row for which in args.detector or ["centerface"] for row in look(which)]
    except FerDeployError as error:
        sys.exit(f"real_photos.py: {error}")
    result = {"schema": 1, "machine": machine_info(), "rows": rows}
    print(json.dumps(result, indent=1) if args.json else table(rows))
    if args.output:
        name = result_name("real_photos", result["machine"])
        path = args.output / name if args.output.is_dir() else args.output
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def look(which: str) -> Iterator[Row]:
    """Looks at each picture with one detector, and tells what the classifier says of each box."""
    with Classifier.load(detector=which) as classifier:
        for name, path in images():
            found = classifier.predict_faces(path)
            boxes = [
                {
                    "right": _lies_in(each.box, FACES.get(name)),
                    "score": round(each.face_score or 0, 3),
                    "box": [round(value) for value in each.box or ()],
                    "emotion": each.emotion,
                }
                for each in found
            ]
            detector = Path(which).stem.split("_20")[0].removeprefix("face_detection_")
            yield {"detector": detector, "picture": name, "faces": int(name in FACES), "boxes": boxes}


def images() -> Iterator[tuple[str, Path]]:
    """Names and places of the pictures that are installed."""
    for package, folder in FOLDERS.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            print(f"real_photos.py: {package} is not installed, its pictures are left out", file=sys.stderr)
            continue
        for path in sorted((Path(spec.origin).parent / folder).iterdir()):
            if path.suffix in SUFFIXES:
                yield f"{package}/{path.name}", path


def table(rows: list[Row]) -> str:
    """Draws a row for each picture with a face or a box, and the sums."""
    lines = []
    for row in rows:
        right = [box for box in row["boxes"] if box["right"]]
        wrong = [box for box in row["boxes"] if not box["right"]]
        if row["faces"] or wrong:
            reported = ", ".join(f"{box['emotion']} (score {box['score']:.2f})" for box in right)
            scores = ", ".join(f"{box['score']:.2f}" for box in wrong)
            lines.append([row["detector"], row["picture"], str(row["faces"]), reported or "-", scores or "-"])
    for detector in dict.fromkeys(row["detector"] for row in rows):
        own = [row for row in rows if row["detector"] == detector]
        right, wrong = (sum(box["right"] == kind for row in own for box in row["boxes"]) for kind in (True, False))
        without = sum(not row["faces"] for row in own)
        faces = sum(row["faces"] for row in own)
        lines.append([detector, f"all {len(own)}, {without} without a face", str(faces), str(right), str(wrong)])
    return markdown(["detector", "picture", "faces", "found", "wrong boxes' scores"], lines)


def _lies_in(box: tuple[float, ...] | None, face: tuple[int, ...] | None) -> bool:
    if box is None or face is None:
        return False
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    return face[0] <= x <= face[0] + face[2] and face[1] <= y <= face[1] + face[3]


if __name__ == "__main__":
    main()
