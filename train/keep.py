#!/usr/bin/env python3
"""Keeps the state of a training in ``train/state``, small enough for version control, and brings it back.

    train/keep.py runs/teacher_flat                # writes train/state/teacher_flat/checkpoint.npz
    train/keep.py runs/teacher_flat --restore      # the other way, where runs/teacher_flat has no checkpoint

A training of many hours is worth a few megabytes: on another machine it resumes from there with
``fer-deploy train --resume``. Half floats round the weights to 11 bits, and the momentum starts from zero.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fer_deploy.errors import FerDeployError, OutputError
from fer_deploy.training.checkpoint import FILE, Checkpoint

STATE = Path(__file__).resolve().parent / "state"


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a training's folder")
    parser.add_argument("--restore", action="store_true", help="bring the kept state back into the folder")
    parser.add_argument("--state", type=Path, default=STATE, help="where states are kept")
    args = parser.parse_args()
    kept = args.state / args.run.resolve().name
    try:
        if args.restore:
            restore(kept, args.run)
        else:
            keep(args.run, kept)
    except FerDeployError as error:
        sys.exit(f"train/keep.py: {error}")


def keep(run: Path, kept: Path) -> None:
    """Writes a run's compact checkpoint."""
    state = Checkpoint.load(run)
    kept.mkdir(parents=True, exist_ok=True)
    state.compact().save(kept, compressed=True)
    last = state.history[-1] if state.history else {}
    megabytes = (kept / FILE).stat().st_size / 1e6
    accuracy = last.get("public_accuracy", 0)
    print(f"{kept / FILE}: epoch {len(state.history)}, {megabytes:.1f} MB, {accuracy:.2%} on PublicTest")


def restore(kept: Path, run: Path) -> None:
    """Writes a kept checkpoint into a run's folder; one that is there is never replaced."""
    state = Checkpoint.load(kept)
    if (run / FILE).exists():
        raise OutputError(f"{run / FILE} exists already; remove it to restore the kept state")
    run.mkdir(parents=True, exist_ok=True)
    state.save(run)
    print(f"{run / FILE}: epoch {len(state.history)}")


if __name__ == "__main__":
    main()
