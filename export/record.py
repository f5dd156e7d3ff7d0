#!/usr/bin/env python3
"""Verifies a shipped bundle on this machine and keeps the result in it, where ``--backend auto`` and tables read it.

    pip install -e '.[export,onnx]'
    export/record.py --data fer2013.zip
    export/record.py --bundle fast --data fer2013.zip

Records hold for the CPU class or GPU that they were made on; those of other machines stay, as long as the files that
they are of do. Run it on a quiet machine: the speeds decide what ``auto`` takes.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path

from fer_deploy.bundle.manifest import Bundle
from fer_deploy.bundle.records import merge
from fer_deploy.bundle.shipped import DEFAULT, shipped_names
from fer_deploy.data.fer2013 import PRIVATE
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.errors import FerDeployError
from fer_deploy.verification.record import records_of
from fer_deploy.verification.tolerances import Gate
from fer_deploy.verification.variants import select
from fer_deploy.verification.verifier import verify


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="FER-2013 in any form")
    parser.add_argument("--bundle", default=DEFAULT, choices=shipped_names(), help=f"which one; {DEFAULT} if not given")
    parser.add_argument("--split", default=PRIVATE, help=f"the partition to verify on; {PRIVATE} if not given")
    args = parser.parse_args()
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    try:
        bundle = Bundle.load(args.bundle)
        partition = load_fer2013(args.data).partition(args.split)
        outcome = verify(bundle, partition, args.split, select("all", "all", ""), Gate(bundle.target_accuracy))
        if not outcome.passed:
            sys.exit("export/record.py: not kept:\n" + "\n".join(outcome.failures))
        present = {artefact.sha256 for artefact in bundle.artefacts}
        kept = [record for record in bundle.verification if record.artefact_sha256 in present]
        dataclasses.replace(bundle, verification=merge(kept, records_of(outcome))).save()
    except FerDeployError as error:
        sys.exit(f"export/record.py: {error}")
    for row in records_of(outcome):
        variant = f"{row.backend:9}{row.precision:9}"
        quality = f"{row.accuracy:7.2%} {row.drift_points:+.2f} {row.agreement:8.2%}"
        print(variant, quality, "simulated" if row.simulated else f"{row.images_per_s:,.0f} images/s")


if __name__ == "__main__":
    main()
