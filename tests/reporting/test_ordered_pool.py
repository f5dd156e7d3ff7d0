from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from fer_deploy.reporting.ordered_pool import OrderedPool


def test_results_come_in_order_and_the_window_holds() -> None:
    under_way, most = 0, 0
    lock = threading.Lock()

    def job(value: int) -> int:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.001 * (value % 3))
        with lock:
            under_way -= 1
        return value

    results: list[int] = []
    with OrderedPool[int](window=5, workers=8) as pool:
        for value in range(100):
            results += pool.do(partial(job, value))
            assert value - len(results) < 5
        results += pool.rest()
    assert results == list(range(100))
    assert 1 < most <= 5


def test_what_a_job_raises_comes_where_results_are_taken_and_threads_end() -> None:
    before = threading.active_count()

    def fails() -> int:
        raise ValueError("no")

    def run() -> None:
        with OrderedPool[int]() as pool:
            list(pool.do(fails))
            list(pool.rest())

    with pytest.raises(ValueError, match="no"):
        run()
    assert threading.active_count() == before
