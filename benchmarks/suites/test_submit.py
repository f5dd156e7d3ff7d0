"""``Classifier.submit`` from several threads, one or more pictures outstanding in each, against batches of 64.

The plugin times the threads; the same pictures go through ``predict`` in each round's setup, right before them.
``extra_info`` holds, as ``of_batches``, the median over the rounds of how near to that throughput the threads come.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_deploy import Classifier
from fer_deploy.backends.base import Backend
from fer_deploy.inference.prediction import Prediction

Images = NDArray[np.uint8]
ROUNDS = 7


@pytest.mark.parametrize(("threads", "outstanding"), [(8, 1), (32, 1), (64, 1), (4, 16), (8, 8)])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_submit(
    benchmark: Any,
    opened: Callable[[str, str], Backend],
    noise: Images,
    precision: str,
    threads: int,
    outstanding: int,
) -> None:
    classifier = Classifier(opened("openvino", precision))
    images = np.concatenate([noise, noise]) if benchmark.enabled else noise[:64]
    batches: list[float] = []
    predictions: dict[int, tuple[float, ...]] = {}

    def in_batches() -> None:
        started = time.perf_counter()
        classifier.predict(images, batch_size=64)
        batches.append(time.perf_counter() - started)

    def client(first: int) -> None:
        waiting: deque[tuple[int, Future[Prediction]]] = deque()
        for n in range(first, len(images), threads):
            if len(waiting) == outstanding:
                take(*waiting.popleft())
            waiting.append((n, classifier.submit(images[n])))
        for n, future in waiting:
            take(n, future)

    def take(n: int, future: Future[Prediction]) -> None:
        predictions[n] = future.result().probabilities

    def from_threads() -> None:
        clients = [threading.Thread(target=client, args=(n,)) for n in range(threads)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()

    benchmark.group = "submit from threads"
    benchmark.pedantic(from_threads, setup=in_batches, rounds=ROUNDS, warmup_rounds=1)
    if benchmark.stats is not None:
        found = [a / b for a, b in zip(batches[-ROUNDS:], benchmark.stats.stats.data, strict=True)]
        benchmark.extra_info.update(of_batches=statistics.median(found), batches_s=batches[-ROUNDS:])
    whole = [predictions[n] for n in range(len(images))]
    np.testing.assert_allclose(whole, classifier.predict(images).probabilities, atol=1e-5)
