"""Runs all pictures through an open backend: answers, and how fast they came."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import numpy as np

from fer_deploy.backends.base import Backend, Images, Probabilities
from fer_deploy.errors import ModelError
from fer_deploy.machine import machine_info

Count = Callable[[int], None]
"""Called with the number of pictures done."""
_ROUNDING: Final = 1e-2
"""How far from 1 a row of probabilities may sum; bf16 has three digits."""


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
    begun = time.perf_counter()
    probabilities = run_all(backend, images, batch, count)
    elapsed_s = time.perf_counter() - begun
    _check(probabilities, len(images))
    machine = backend.gpu or machine_info()["cpu_class"]
    told = (backend.effective, backend.device, backend.runtime, machine, backend.simulated)
    return Measured(probabilities, len(images) / elapsed_s, *told)


def run_all(backend: Backend, images: Images, batch: int = 64, count: Count = lambda done: None) -> Probabilities:
    """Streams all pictures through an open backend; returns its answers, shape (N, 7)."""
    parts, done = [], 0
    with closing(backend.run_stream(_batches(images, batch))) as answers:
        for part in answers:
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
