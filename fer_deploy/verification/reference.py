"""Runs all pictures through an open backend: answers, and how fast they came.

What all forms are compared with: Keras where it is installed, else what it answered when the bundle was made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import numpy as np

from fer_deploy.backends.base import Backend, Images, Probabilities
from fer_deploy.backends.tta import with_tta
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.bundle.reference_predictions import KerasOutputs, fingerprint, read_outputs
from fer_deploy.data.fer2013 import PRIVATE, PUBLIC
from fer_deploy.errors import MissingDependencyError, ModelError, UnavailableError, UsageError
from fer_deploy.system.machine import machine_info
from fer_deploy.verification.variants import KERAS, open_variant

Count = Callable[[int], None]
"""Called with the number of pictures done."""
_ROUNDING: Final = 1e-2
"""How far from 1 a row of probabilities may sum; bf16 has three digits."""
SAME: Final = 1e-4
"""How far Keras may lie from its own record: another version or another CPU's order of sums."""


@dataclass(frozen=True)
class Measured:
    """What an open backend gave.

    Args:
        probabilities: float32, shape (N, 7).
        images_per_s: Throughput of one streamed pass after a warm-up.
        effective: What the runtime computed in.
        device: ``cpu``, ``cuda``, ...
        runtime: Its name and version.
        machine: The CPU class, or the GPU's name.
        simulated: Whether it stood in for another runtime.
    """

    probabilities: Probabilities
    images_per_s: float
    effective: str
    device: str
    runtime: str
    machine: str
    simulated: bool


def measure(backend: Backend, images: Images, batch: int, count: Count = lambda done: None) -> Measured:
    """Streams all pictures through an open backend once, after a warm-up that is not timed.

    Args:
        backend: Open.
        images: uint8, shape (N, 48, 48, 1).
        batch: Pictures per batch.
        count: Called after each batch.

    Raises:
        BackendError: The runtime failed.
        ModelError: The answers are no probabilities.
    """
    first, last = images[:batch], images[(len(images) - 1) // batch * batch :]
    with closing(backend.run_stream(iter((first, first, last)))) as warm_up:  # two sizes: some runtimes compile each
        for _ in warm_up:
            pass
    started = time.perf_counter()
    probabilities = run_all(backend, images, batch, count)
    elapsed_s = time.perf_counter() - started
    _check(probabilities, len(images))
    machine = backend.gpu or machine_info()["cpu_class"]
    reported = (backend.effective, backend.device, backend.runtime, machine, backend.simulated)
    return Measured(probabilities, len(images) / elapsed_s, *reported)


def run_all(backend: Backend, images: Images, batch: int = 64, count: Count = lambda done: None) -> Probabilities:
    """Streams all pictures through an open backend; returns its answers, shape (N, 7)."""
    parts, done = [], 0
    with closing(backend.run_stream(_batches(images, batch))) as predictions:
        for part in predictions:
            parts.append(part)
            done += len(part)
            count(done)
    return np.concatenate(parts)


def _batches(images: Images, batch: int) -> Iterator[Images]:
    return (images[start : start + batch] for start in range(0, len(images), batch))


def _check(probabilities: Probabilities, n: int) -> None:
    if len(probabilities) != n:
        raise ModelError(f"It gives {len(probabilities):,} answers to {n:,} pictures")
    if not np.isfinite(probabilities).all():
        raise ModelError("It gives values that are not finite")
    worst = float(np.abs(probabilities.sum(axis=1) - 1).max())
    if worst > _ROUNDING or (probabilities < 0).any():
        raise ModelError(f"Its answers are no probabilities: a row sums to {1 + worst:.3g} or has a negative one")


@dataclass(frozen=True)
class Reference:
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


def reference_of(
    bundle: Bundle, images: Images, batch: int, threads: int | None, count: Count, tta: str | None = None
) -> Reference:
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
    recorded = None if outputs is None else recorded_predictions(outputs, images)
    try:
        with with_tta(open_variant(bundle, KERAS, threads=threads), tta) as backend:
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
        return Reference(recorded, "recorded", None, (f"Keras did not run: {error}",))
    return Reference(measured.probabilities, "keras", measured, _differs(recorded, measured.probabilities))


def recorded_predictions(outputs: KerasOutputs, images: Images) -> Probabilities | None:
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
