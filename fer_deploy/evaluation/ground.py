"""What all forms are compared with: Keras where it is installed, else what it answered when the bundle was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from fer_deploy.backends.base import Images, Probabilities
from fer_deploy.backends.mirrored import with_tta
from fer_deploy.bundle import Bundle
from fer_deploy.data.fer2013 import PRIVATE, PUBLIC
from fer_deploy.errors import MissingDependencyError, UnavailableError, UsageError
from fer_deploy.evaluation.forms import KERAS, open_form
from fer_deploy.evaluation.keras_outputs import KerasOutputs, fingerprint, read_outputs
from fer_deploy.evaluation.measurement import Count, Measured, measure

SAME: Final = 1e-4
"""How far Keras may lie from its own record: another version or another CPU's order of sums."""


@dataclass(frozen=True)
class Ground:
    """Keras's answers.

    Args:
        probabilities: float32, shape (N, 7).
        source: ``keras`` (it ran) or ``recorded``.
        measured: How it ran; None where it did not.
        notes: What the user should know, one line each.
    """

    probabilities: Probabilities
    source: str
    measured: Measured | None
    notes: tuple[str, ...]


def ground_of(
    bundle: Bundle, images: Images, batch: int, threads: int | None, count: Count, tta: str | None = None
) -> Ground:
    """Runs Keras over the pictures, or takes its recorded answers to just these where it is not installed.

    Args:
        bundle: Whose model.
        images: uint8, shape (N, 48, 48, 1), in the reader's order.
        batch: Pictures per batch.
        threads: Of Keras's framework; None leaves it alone.
        count: Called with the number of pictures done.
        tta: Of ``Options``; what is recorded are answers to single pictures, so Keras must run then.

    Raises:
        UsageError: Keras is not installed and nothing is recorded of these pictures.
        BundleError: The Keras file or the record is damaged.
        BackendError: Keras cannot run the model.
        ModelError: What Keras gives are no probabilities.
    """
    outputs = read_outputs(bundle) if tta is None else None
    recorded = None if outputs is None else recorded_answers(outputs, images)
    try:
        with with_tta(open_form(bundle, KERAS, threads=threads), tta) as backend:
            measured = measure(backend, images, batch, count)
    except (MissingDependencyError, UnavailableError) as error:
        if tta is not None:
            raise UsageError(
                f"With --tta {tta} Keras must run, as the bundle's record has no such answers: {error}"
            ) from error
        if recorded is None:
            raise UsageError(
                f"There is nothing to compare with. {str(error).rstrip('.')}; and the bundle has no recorded Keras "
                f"answers to these {len(images):,} pictures (fer-deploy verify --record makes them where Keras is)"
            ) from error
        return Ground(recorded, "recorded", None, (f"Keras did not run: {error}",))
    return Ground(measured.probabilities, "keras", measured, _differs(recorded, measured.probabilities))


def recorded_answers(outputs: KerasOutputs, images: Images) -> Probabilities | None:
    """Finds Keras's recorded answers to pictures by their fingerprint: a partition, or both test sets as one."""
    tests = [outputs.partitions[name] for name in (PUBLIC, PRIVATE) if name in outputs.partitions]
    candidates = [[partition] for partition in outputs.partitions.values()] + ([tests] if len(tests) == 2 else [])
    for parts in candidates:
        if sum(len(part.probabilities) for part in parts) != len(images):
            continue
        ends = np.cumsum([len(part.probabilities) for part in parts])[:-1]
        if all(
            fingerprint(these) == part.fingerprint for part, these in zip(parts, np.split(images, ends), strict=True)
        ):
            return np.concatenate([part.probabilities for part in parts])
    return None


def _differs(recorded: Probabilities | None, found: Probabilities) -> tuple[str, ...]:
    if recorded is None:
        return ()
    worst = float(np.abs(recorded - found).max())
    if worst <= SAME:
        return ()
    return (f"Keras differs from its answers recorded in the bundle by up to {worst:.1e}: record them again",)
