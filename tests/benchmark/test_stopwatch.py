"""How samples are taken and kept, on a clock of our own: nothing here depends on how fast the machine is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

from fer_deploy.backends.null import NullBackend
from fer_deploy.benchmark.stopwatch import LATENCY, THROUGHPUT, Reservoir, Stopwatch, Task, percentiles, tiled_batches
from fer_deploy.bundle.manifest import Bundle


class Slow(NullBackend):
    """Takes as long as it is told, on its own clock; keeps two batches in flight like a real runtime."""

    def __init__(self, seconds: Iterable[float]) -> None:
        super().__init__(Bundle.load())
        self.now = 0.0
        self.seconds = iter(seconds)
        self.calls = 0
        self.left: list[int] = []

    def clock(self) -> float:
        return self.now

    def _infer(self, batch: Any) -> Any:
        self.calls += 1
        self.now += next(self.seconds)
        return super()._infer(batch)

    def run_stream(self, batches: Iterable[Any]) -> Iterator[Any]:
        waiting: list[Any] = []
        for batch in batches:
            waiting.append(batch)
            if len(waiting) > 2:
                yield self.run(waiting.pop(0))
        self.left.append(len(waiting))
        for batch in waiting:
            yield self.run(batch)


def forever(value: float) -> Iterator[float]:
    while True:
        yield value


def test_percentiles_of_known_samples() -> None:
    assert percentiles([i / 100 for i in range(101)]) == pytest.approx((0.5, 0.9, 0.99))
    assert percentiles([3.0]) == (3.0, 3.0, 3.0)


def test_a_reservoir_keeps_all_of_few_and_a_fair_choice_of_many() -> None:
    few = Reservoir(10)
    few.add([1.0, 2.0, 3.0])
    assert (few.kept, few.count, few.total_s) == ([1.0, 2.0, 3.0], 3, 6.0)

    many, again = Reservoir(500), Reservoir(500)
    for part in np.split(np.arange(20_000.0), 20):
        many.add(part.tolist())
    again.add(np.arange(20_000.0).tolist())
    assert many.kept == again.kept  # seeded, and however the samples come
    assert (len(many.kept), many.count) == (500, 20_000)
    assert 9_000 < np.mean(many.kept) < 11_000
    assert len(set(many.kept)) == 500


def test_batches_are_drawn_pictures_and_differ() -> None:
    for size in (1, 64, 256):
        batches = tiled_batches(size)
        assert {batch.shape for batch in batches} == {(size, 48, 48, 1)}
        assert len({batch.tobytes() for batch in batches}) == len(batches)
        assert all(batch.flags.c_contiguous and batch.dtype == np.uint8 for batch in batches)


def test_latency_is_the_time_of_single_calls() -> None:
    seconds = [9.0, *[1.0, 2.0, 3.0, 4.0] * 5]
    with Slow(iter(seconds)) as backend:
        watch = Stopwatch(backend, Task(LATENCY, 8), backend.clock)
        watch.turn(19.5)  # runs off one call, then measures until 19.5 s are over
        found = watch.outcome()
    assert found["samples_s"] == [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]
    assert (found["samples"], found["n"], found["images_per_s"]) == (8, 64, 64 / 20)
    assert found["latency_p50_s"] == 2.5


def test_throughput_counts_neither_filling_nor_emptying() -> None:
    with Slow(forever(0.5)) as backend:
        watch = Stopwatch(backend, Task(THROUGHPUT, 4), backend.clock)
        watch.turn(10.0)
        found = watch.outcome()
        assert backend.left == [2, 2]  # batches were still in flight when the measured time was over
    assert (found["samples"], found["images_per_s"]) == (20, 8.0)
    assert "latency_p50_s" not in found


@pytest.mark.parametrize("mode", [LATENCY, THROUGHPUT])
def test_a_warm_up_ends_when_two_windows_agree(mode: str) -> None:
    with Slow([8.0, 4.0, 2.0, *[1.0] * 100]) as backend:
        watch = Stopwatch(backend, Task(mode, 1), backend.clock)
        watch.warm_up(0.5, 100)
        assert watch.settled
        assert backend.calls >= 5  # 8, 4, 2 and the first 1 do not agree
        assert backend.now < 30


def test_a_warm_up_ends_when_its_time_is_over() -> None:
    with Slow(1.0 + i % 2 for i in range(1000)) as backend:
        watch = Stopwatch(backend, Task(LATENCY, 1), backend.clock)
        watch.warm_up(0.5, 20)
        assert 20 <= backend.now < 23
        before = backend.now
        watch.turn(4)
        found = watch.outcome()
    assert (found["settled"], found["warm_up_s"]) == (False, before)
