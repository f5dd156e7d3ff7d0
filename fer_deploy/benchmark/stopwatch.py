"""How fast an open backend is: the latency of single calls, the throughput of a stream, and when both have settled."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import cycle
from statistics import fmean, median
from typing import Any, Final, NamedTuple

import numpy as np

from fer_deploy.backends.base import Backend, Images
from fer_deploy.data.probe import probe_images

LATENCY: Final = "latency"
THROUGHPUT: Final = "throughput"
MODES: Final = (LATENCY, THROUGHPUT)
SETTLED: Final = 0.03
"""A warm-up is over when two windows in succession differ by no more than this fraction."""
MOST_SAMPLES: Final = 2000
_DIFFERENT: Final = 8
"""Batches that take turns, so that none is answered from a cache that real pictures would miss."""
_ON_DEVICE: Final = 200
"""Samples of the device alone: they hardly differ."""
_SEED: Final = 2013


class Task(NamedTuple):
    """What one row measures."""

    mode: str
    batch: int


class Reservoir:
    """Keeps a fair, seeded choice of at most ``most`` of the samples that it is given, in no order of time.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int = MOST_SAMPLES) -> None:
        self._most = most
        self._random = random.Random(_SEED)
        self.kept: list[float] = []
        self.count = 0
        self.total_s = 0.0

    def add(self, samples: Sequence[float]) -> None:
        """Takes samples in, seconds each; every one so far is equally likely to be kept (Vitter's algorithm R)."""
        for sample in samples:
            self.count += 1
            self.total_s += sample
            if len(self.kept) < self._most:
                self.kept.append(sample)
            elif (place := self._random.randrange(self.count)) < self._most:
                self.kept[place] = sample


def percentiles(samples: Sequence[float]) -> tuple[float, float, float]:
    """Gives p50, p90 and p99 of at least one sample, interpolated between neighbours."""
    p50, p90, p99 = np.percentile(samples, (50, 90, 99)).tolist()
    return p50, p90, p99


def tiled_batches(batch: int) -> list[Images]:
    """Makes batches of the probe pictures, repeated as often as it takes; each starts with another picture.

    Returns:
        Contiguous arrays, uint8, shape (batch, 48, 48, 1).
    """
    images = probe_images()
    places = np.arange(batch)
    step = max(1, len(images) // _DIFFERENT)
    return [images[(places + i * step) % len(images)] for i in range(_DIFFERENT)]


class Stopwatch:
    """Measures one task on one open backend, a turn at a time.

    A latency is the time of one synchronous ``Backend.run``. Throughput is that of ``run_stream`` between the first
    answer and the last one before the time is over, while more batches keep coming: neither filling nor emptying the
    runtime's streams counts.

    Args:
        backend: Open.
        task: Mode and batch size.
        clock: Seconds.
    """

    def __init__(self, backend: Backend, task: Task, clock: Callable[[], float] = time.perf_counter) -> None:
        self._backend, self._task, self._clock = backend, task, clock
        self._batches = cycle(tiled_batches(task.batch))
        self._run = self._calls if task.mode == LATENCY else self._stream
        self._samples = Reservoir()
        self.warm_up_s = 0.0
        self.settled = False

    def warm_up(self, window_s: float, limit_s: float) -> None:
        """Runs untimed windows until two in succession agree, or the time is over.

        Args:
            window_s: Length of a window; one call at least.
            limit_s: After so long it is given up; ``settled`` tells which.
        """
        started = self._clock()
        self._backend.run(next(self._batches))  # some runtimes compile for each batch size
        centre = median if self._task.mode == LATENCY else fmean  # answers of parallel streams come in bursts
        before = 0.0
        while not self.settled and self._clock() - started < limit_s:
            now = centre(self._run(window_s))
            self.settled = abs(now - before) <= SETTLED * before
            before = now
        self.warm_up_s = self._clock() - started

    def turn(self, seconds: float, least: int = 1) -> float:
        """Measures for so long; what the turns of others left behind is run off before.

        Args:
            seconds: How long.
            least: Samples at least.

        Returns:
            Pictures per second in this turn.
        """
        self._run(seconds / 10)
        samples = self._run(seconds, least)
        self._samples.add(samples)
        return len(samples) * self._task.batch / sum(samples)

    def outcome(self) -> dict[str, Any]:
        """Gives the figures of a row; percentiles, of latency only, are those of the samples that are kept."""
        samples = self._samples
        n = samples.count * self._task.batch
        streams, threads = self._backend.parallelism(self._task.mode == THROUGHPUT)
        found: dict[str, Any] = {
            "n": n,
            "streams": streams,
            "threads": threads,
            "images_per_s": n / samples.total_s,
            "samples": samples.count,
            "samples_s": [round(sample, 9) for sample in samples.kept],
            "warm_up_s": round(self.warm_up_s, 3),
            "settled": self.settled,
        }
        if self._task.mode == LATENCY:
            names = ("latency_p50_s", "latency_p90_s", "latency_p99_s")
            found |= zip(names, percentiles(found["samples_s"]), strict=True)
            found["device_p50_s"] = self._device_p50_s()
        return found

    def _device_p50_s(self) -> float | None:
        """Median time of the device alone, without copies; None where the backend cannot tell."""
        device_seconds = getattr(self._backend, "device_seconds", None)
        samples = device_seconds(self._task.batch, _ON_DEVICE) if device_seconds else []
        return median(samples) if samples else None

    def _calls(self, seconds: float, least: int = 1) -> list[float]:
        samples, clock, run, batches = list[float](), self._clock, self._backend.run, self._batches
        stop = clock() + seconds
        while True:
            batch = next(batches)
            started = clock()
            run(batch)
            ended = clock()
            samples.append(ended - started)
            if ended >= stop and len(samples) >= least:
                return samples

    def _stream(self, seconds: float, least: int = 1) -> list[float]:
        feeding, clock = True, self._clock

        def feed() -> Iterator[Images]:
            while feeding:
                yield next(self._batches)

        samples: list[float] = []
        with closing(self._backend.run_stream(feed())) as replies:
            next(replies)
            last = clock()
            stop = last + seconds
            while last < stop or len(samples) < least:
                next(replies)
                now = clock()
                samples.append(now - last)
                last = now
            feeding = False
            for _ in replies:
                pass
        return samples
