#!/usr/bin/env python3
"""Where a found face is to be cut out: accuracy by margin, shift and turn, on faces that were pasted and found again.

    benchmarks/face_crop.py --data fer2013.zip [--limit 1500]

Faces of PublicTest alone: what is chosen here stands in ``fer_deploy/faces/align.py``. Differences below a point are
within what so few faces can tell, so the middle of what is good was taken, and turning because it helps turned heads.
"""

from __future__ import annotations

import argparse
from itertools import product
from typing import Any

import numpy as np
from faces import matched
from pasting import Kind, scenes
from PIL import Image
from rounds import markdown

from fer_deploy import Classifier
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.faces.align import CropSettings, crop_face
from fer_deploy.faces.detector import TwoStageDetector
from fer_deploy.faces.face import Face
from fer_deploy.faces.networks import CenterFace

KINDS = (Kind("up to 15 degrees"), Kind("turned 15 to 45 degrees", turns=(15, 45)))
MARGINS = (0.87, 0.92, 0.97, 1.02, 1.07, 1.12)
DOWNS = (0.0, 0.03, 0.06)
TURNS = (0.0, 0.5, 1.0)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="FER-2013, in any form")
    parser.add_argument("--limit", type=int, default=1500, help="faces of each kind")
    args = parser.parse_args()
    data = load_fer2013(args.data, tests_only=True).partition("PublicTest")
    order = np.random.default_rng(5).permutation(len(data))[: args.limit]
    faces, labels = data.images[order], data.labels[order]
    detector = TwoStageDetector(CenterFace.installed())
    with Classifier.load() as classifier:
        for kind in KINDS:
            found = find(detector, faces, kind)
            truth = labels[[number for number, _, _ in found]]

            def accuracy(crops: Any, truth: Any = truth) -> float:
                predictions = classifier.predict(np.stack(crops)).probabilities.argmax(axis=1)
                return 100 * float((predictions == truth).mean())

            plain = accuracy([faces[number] for number, _, _ in found])
            print(f"\n{kind.name}: {len(found)} of {len(faces)} found; the same faces as they are: {plain:.2f} %\n")
            rows = []
            for turn, down in product(TURNS, DOWNS):
                cuts = [CropSettings(margin, down, turn) for margin in MARGINS]
                scores = [accuracy([crop_face(gray, face, cut) for _, gray, face in found]) for cut in cuts]
                rows.append([f"{turn:g}", f"{down:g}", *(f"{score - plain:+.2f}" for score in scores)])
            print(markdown(["turn", "down", *(f"margin {margin:g}" for margin in MARGINS)], rows), flush=True)


def find(detector: TwoStageDetector, faces: Any, kind: Kind) -> list[tuple[int, Any, Face]]:
    """Pastes and finds faces; gives each found one's number, the gray picture around it, and where it lies in that."""
    result = []
    for image, pasted in scenes(faces, kind, seed=5):
        found = detector.detect(image)
        gray = np.asarray(Image.fromarray(image).convert("L"))
        for at, number in zip(pasted, matched(pasted, [face.box for face in found]), strict=True):
            if number is not None:
                left, upper = (max(0, int(middle - 1.3 * at.side)) for middle in (at.x, at.y))
                around = gray[upper : int(at.y + 1.3 * at.side), left : int(at.x + 1.3 * at.side)].copy()
                x, y, width, height = found[number].box
                marks = np.asarray(found[number].landmarks) - np.array([left, upper], np.float32)
                result.append((at.number, around, Face((x - left, y - upper, width, height), 1.0, marks)))
    return result


if __name__ == "__main__":
    main()
