"""Keeps what a verification found: records of the rows, and Keras's answers in a bundle of the user's own."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path

from fer_deploy.backends.base import Images, Probabilities
from fer_deploy.backends.registry import backend_class
from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.bundle.records import Record
from fer_deploy.bundle.reference_predictions import (
    FORMAT,
    RecordedPartition,
    fingerprint,
    read_outputs,
    write_outputs,
)
from fer_deploy.bundle.store import is_the_users, keep
from fer_deploy.data.probe import probe_images
from fer_deploy.verification.reference import run_all
from fer_deploy.verification.verifier import SKIPPED, Verification, VerificationRow


def record(bundle: Bundle, verification: Verification, images: Images, threads: int | None = None) -> Path:
    """Keeps every row but the skipped ones; with Keras as the ground, its answers too where the bundle is the user's.

    Args:
        bundle: What was verified.
        verification: The outcome, with labels.
        images: The pictures, uint8, shape (N, 48, 48, 1), in the reader's order.
        threads: Of Keras's framework, the same as in the verification: it takes no other once it runs.

    Returns:
        The folder or file that the records went to.

    Raises:
        OutputError: It cannot be written.
    """
    if verification.reference.source == "keras" and is_the_users(bundle):
        bundle = _with_outputs(bundle, verification.split, images, verification.reference.probabilities, threads)
    return keep(bundle, records_of(verification))


def records_of(verification: Verification) -> list[Record]:
    """Makes a record of every row of a verification with labels, the skipped ones left out; dated today."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    rows = (row for row in verification.rows if row.status != SKIPPED and row.machine)
    return [_record(row, verification.split, today) for row in rows]


def _record(row: VerificationRow, split: str, date: str) -> Record:
    """Makes the record of a row; one that gave no answers counts as wrong on all, so that ``auto`` never takes it."""
    return Record(
        backend=row.backend,
        precision=row.precision,
        effective=row.effective or "",
        simulated=row.simulated,
        device=row.device or "",
        runtime=row.runtime or "",
        machine=row.machine or "",
        artefact_sha256=row.artefact_sha256 or "",
        split=split,
        n=row.n or 0,
        accuracy=row.accuracy or 0.0,
        drift_points=row.drift_points or 0.0,
        agreement=row.agreement or 0.0,
        images_per_s=round(row.images_per_s or 0.0, 1),
        status=row.status,
        reason=row.reason or "",
        date=date,
    )


def _with_outputs(
    bundle: Bundle, split: str, images: Images, probabilities: Probabilities, threads: int | None
) -> Bundle:
    """Adds Keras's answers to a split to those that the bundle holds; returns the bundle as it then lies there."""
    present = read_outputs(bundle)
    if present is None:
        with backend_class("keras")(bundle, threads=threads) as backend:
            probe = run_all(backend, probe_images())
    else:
        probe = present.probe
    new = RecordedPartition(fingerprint(images), probabilities)
    partitions = {**(present.partitions if present else {}), split: new}
    file = write_outputs(bundle.path, probe=probe, partitions=partitions)
    others = tuple(artefact for artefact in bundle.artefacts if artefact.format != FORMAT)
    made_with = {"recorded_by": "fer-deploy verify --record"}
    changed = dataclasses.replace(
        bundle, artefacts=(*others, describe_file(bundle.path, file, FORMAT, "fp32", made_with))
    )
    changed.save()
    return changed
