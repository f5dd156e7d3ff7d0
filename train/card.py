#!/usr/bin/env python3
"""Writes into the model card what can be measured of the shipped bundles: copies, confidence, mirror images.

    pip install -e . matplotlib
    train/card.py --data fer2013.zip
    train/card.py --data fer2013.zip --bundle fast

Accuracy without copies and the calibration error are computed from Keras's answers that the bundle holds; the model
itself runs (OpenVINO, fp32) for the accuracy with ``--tta flip`` alone, a minute or two. ``train/reproduce.py --ship``
calls this; call it after ``export/reproduce.py --ship``. ``results/<bundle>/reliability.png`` is drawn, too.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_deploy.backends.select import open_backend
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.bundle.reference_predictions import read_outputs
from fer_deploy.bundle.shipped import shipped_names
from fer_deploy.data.fer2013 import PRIVATE, PUBLIC, Fer2013
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.errors import FerDeployError, UsageError
from fer_deploy.metrics.accuracy import score
from fer_deploy.metrics.calibration import BINS, draw_reliability, reliability, with_temperature
from fer_deploy.metrics.duplicates import copies_table, without_copies
from fer_deploy.verification.reference import recorded_predictions, run_all

HERE = Path(__file__).resolve().parent
CARD = HERE / "MODEL_CARD.md"
Answers = dict[str, NDArray[np.float32]]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="FER-2013 in any form, with Training")
    parser.add_argument("--bundle", choices=shipped_names(), help="which one; all if not given")
    args = parser.parse_args()
    try:
        data = load_fer2013(args.data)
        for name in [args.bundle] if args.bundle else shipped_names():
            bundle = Bundle.load(name)
            answers = recorded(bundle, data)
            draw(bundle, data, answers, HERE / "results" / name / "reliability.png")
            lines = [*figures(bundle, data, answers), *mirrored(bundle, data, answers)]
            CARD.write_text(with_figures(CARD.read_text(encoding="utf-8"), name, lines), encoding="utf-8")
            print("\n".join(lines), flush=True)
    except FerDeployError as error:
        sys.exit(f"train/card.py: {error}")


def with_figures(card: str, name: str, lines: list[str]) -> str:
    """Puts lines between the marks ``<!-- NAME: figures -->`` and ``<!-- NAME: figures end -->`` of the card.

    Raises:
        UsageError: It does not have them.
    """
    begin, end = f"<!-- {name}: figures -->", f"<!-- {name}: figures end -->"
    before, found, rest = card.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise UsageError(f"The model card has no place for the figures of {name}: put {begin} and {end} there")
    return "\n".join([before + begin, *lines, end + after])


def figures(bundle: Bundle, data: Fer2013, answers: Answers) -> list[str]:
    """Makes what follows from the recorded answers: accuracy without copies, and confidence."""
    whole = {name: accuracy_of(found, data, name) for name, found in answers.items()}
    n = {name: len(found) for name, found in answers.items()}
    whole["Test"] = sum(whole[name] * n[name] for name in n) / sum(n.values())
    lines = ["Pictures that are copies, pixel for pixel, of one that the model was made with, left out:", ""]
    lines += [spaced(line) for line in copies_table(without_copies(answers, data), whole)]
    made = temperature_of(bundle)
    lines += [
        "",
        f"Confidence (the largest probability) beside accuracy; expected calibration error in {BINS} bins:",
        "",
    ]
    lines += [
        "| partition | probabilities | mean confidence | accuracy | calibration error |",
        "|---|---|---:|---:|---:|",
    ]
    for name, found in answers.items():
        for what, probabilities in versions(found, made).items():
            one = reliability(probabilities, data.partition(name).labels)
            lines.append(spaced(f"| {name} | {what} | {one.confidence:.2%} | {one.accuracy:.2%} | {one.ece:.2%} |"))
    if made != 1:
        lines += [
            "",
            f"The logits are divided by {made:.3f}, the temperature that makes PublicTest's labels most likely.",
        ]
    return [*lines, "", f"![Reliability](results/{bundle.name}/reliability.png)", ""]


def mirrored(bundle: Bundle, data: Fer2013, answers: Answers) -> list[str]:
    """Runs the model on pictures and their mirror images."""
    told = []
    with open_backend(bundle, "openvino", "fp32", tta="flip") as backend:
        for name in (PUBLIC, PRIVATE):
            images = np.ascontiguousarray(data.partition(name).images[..., None])
            once = accuracy_of(answers[name], data, name)
            twice = accuracy_of(run_all(backend, images), data, name)
            told.append(f"{100 * once:.2f} % becomes {100 * twice:.2f} % on {name}")
    return [f"With `--tta flip`, in twice the time, {' and '.join(told)}; no other figure here has it in it."]


def draw(bundle: Bundle, data: Fer2013, answers: Answers, path: Path) -> None:
    """Draws the reliability diagram of both test partitions."""
    diagrams = {
        f"{name}, {what}": reliability(probabilities, data.partition(name).labels)
        for name, found in answers.items()
        for what, probabilities in versions(found, temperature_of(bundle)).items()
    }
    draw_reliability(diagrams, bundle.name, path)


def recorded(bundle: Bundle, data: Fer2013) -> Answers:
    """Takes Keras's answers to the test partitions out of the bundle.

    Raises:
        UsageError: It has none to these pictures.
    """
    outputs = read_outputs(bundle)
    answers = {}
    for name in (PUBLIC, PRIVATE):
        images = np.ascontiguousarray(data.partition(name).images[..., None])
        found = None if outputs is None else recorded_predictions(outputs, images)
        if found is None:
            raise UsageError(f"The bundle {bundle.name} has no recorded answers to {name} of {data.source}")
        answers[name] = found
    return answers


def temperature_of(bundle: Bundle) -> float:
    """Reads the temperature that the bundle's model was given; 1 where it was given none."""
    keras = bundle.find("keras")
    return float(keras.made_with.get("temperature", {}).get("temperature", 1)) if keras else 1.0


def versions(answers: NDArray[np.float32], temperature: float) -> dict[str, NDArray[np.floating]]:
    """Gives the answers as they ship and, where a temperature made them so, as they were before."""
    return {
        **({"as trained": with_temperature(answers, 1 / temperature)} if temperature != 1 else {}),
        "as shipped": answers,
    }


def spaced(text: str) -> str:
    """Puts the space before percent signs that prose has."""
    return re.sub(r"(\d)%", r"\1 %", text)


def accuracy_of(answers: NDArray[np.float32], data: Fer2013, name: str) -> float:
    """Share of right answers."""
    return score(answers, data.partition(name).labels).accuracy


if __name__ == "__main__":
    main()
