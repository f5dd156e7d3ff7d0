#!/usr/bin/env python3
"""Remakes a shipped bundle from a Keras file, and says whether its files come out the same.

    pip install -e '.[export,onnx]'
    export/reproduce.py --data fer2013.zip                # from the shipped bundle's own model.keras
    export/reproduce.py                                   # the same without INT8
    export/reproduce.py --bundle fast --data fer2013.zip
    export/reproduce.py runs/default/model.keras --data fer2013.zip --ship

``recipes/<bundle>.toml`` says how. Its ``fit_temperature`` holds for a model that is given; the shipped bundle's own
has had its chance. The bundle is written to ``runs/export/<bundle>``. With ``--ship`` it takes the place of the
shipped one and is verified here, which ``export/record.py`` does for other machines. ``train/reproduce.py`` starts
a step earlier, with the training.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import time
from pathlib import Path

from fer_deploy.bundle.manifest import ASSETS, Artefact, Bundle
from fer_deploy.errors import BundleError, FerDeployError
from fer_deploy.exporting.export_recipe import load_export_recipe
from fer_deploy.exporting.exporter import export_bundle

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="default: the shipped one")
    parser.add_argument("--bundle", default="default", help="which one, by name")
    parser.add_argument("--data", help="FER-2013 in any form: calibrate INT8, compare on its PublicTest")
    parser.add_argument("--ship", action="store_true", help="replace the shipped bundle")
    args = parser.parse_args()
    if args.ship and not args.data:
        parser.error("--ship needs --data: the shipped bundle has INT8, which is calibrated on FER-2013")
    start = time.perf_counter()
    place = ASSETS / args.bundle
    try:
        recipe = load_export_recipe(ROOT / f"export/recipes/{args.bundle}.toml")
        shipped = shipped_bundle(place)
        output = place if args.ship else ROOT / "runs/export" / args.bundle
        model = args.model or place / "model.keras"
        if args.model is None:
            recipe = dataclasses.replace(recipe, fit_temperature=False)
        made = export_bundle(
            model, output, name=args.bundle, data=args.data, recipe=recipe, overwrite=True, report=print
        )
        if shipped:
            made = with_history(made, shipped)
        if args.ship:
            made = dataclasses.replace(made, verification=shipped.verification if shipped else ())
        made.save()
    except FerDeployError as error:
        sys.exit(f"export/reproduce.py: {error}")
    print(f"Written: {made.path} in {time.perf_counter() - start:.0f} s")
    for artefact in made.artefacts:
        before = shipped.find(artefact.format, artefact.precision) if shipped else None
        print(f"{artefact.file:20} {artefact.size / 1e6:5.2f} MB  {verdict(artefact, before)}")
    if args.ship:  # in a process of its own, so that no other runtime's threads disturb its speeds
        record = [sys.executable, ROOT / "export/record.py"]
        sys.exit(subprocess.run([*record, "--bundle", args.bundle, "--data", args.data], check=False).returncode)


def shipped_bundle(place: Path) -> Bundle | None:
    """Loads what ships; None in a checkout that has no such bundle yet."""
    try:
        return Bundle.load(place)
    except BundleError:
        return None


def with_history(made: Bundle, shipped: Bundle) -> Bundle:
    """Takes over what the shipped bundle tells of the same model: its training, and its temperature."""
    (keras,) = (artefact for artefact in made.artefacts if artefact.format == "keras")
    before = shipped.find("keras")
    fitted = keras.made_with.get("temperature")
    if shipped.source_sha256 != (fitted["source_sha256"] if fitted else made.source_sha256):
        return made
    reported = before.made_with.get("temperature") if before else None
    if reported and not fitted:
        told_of = dataclasses.replace(keras, made_with={**keras.made_with, "temperature": reported})
        made = dataclasses.replace(made, artefacts=tuple(told_of if a is keras else a for a in made.artefacts))
    return dataclasses.replace(made, training=made.training or shipped.training)  # the new one's lies beside its model


def verdict(made: Artefact, shipped: Artefact | None) -> str:
    """Says how a file compares with the shipped one."""
    if shipped is None:
        return "is new"
    if made.sha256 == shipped.sha256:
        return "is the shipped file, byte for byte"
    there, here = shipped.made_with.get("tools"), made.made_with.get("tools")
    return "differs from the shipped file" + (f": made with {there} there, {here} here" if there != here else "")


if __name__ == "__main__":
    main()
