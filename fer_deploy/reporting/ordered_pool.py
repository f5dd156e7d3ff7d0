"""Threads that work beside a run: jobs are handed over, their results come back in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

T = TypeVar("T")
_MOST: Final = 4
_JOIN_S: Final = 10


class OrderedPool(Generic[T]):
    """A context manager; leaving it drops the jobs that have not begun.

    It uses ``SimpleQueue`` only, like ``inference.decoding``, and for the same reason: an interrupt cannot hang it.

    Args:
        window: How many jobs wait or are under way at most.
        workers: Threads; None for one per CPU, at most four.
    """

    def __init__(self, window: int = 32, workers: int | None = None) -> None:
        self._window = window
        self._jobs: SimpleQueue[tuple[Callable[[], T], SimpleQueue[T | Exception]] | None] = SimpleQueue()
        self._pending: deque[SimpleQueue[T | Exception]] = deque()
        count = workers or min(_MOST, os.cpu_count() or 1)
        self._threads = [Thread(target=self._work, name=f"crew-{n}", daemon=True) for n in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def do(self, job: Callable[[], T]) -> Iterator[T]:
        """Hands a job over; gives the results that are due, and waits for the oldest where the window is full.

        Raises:
            Exception: What an earlier job raised.
        """
        prediction: SimpleQueue[T | Exception] = SimpleQueue()
        self._pending.append(prediction)
        self._jobs.put((job, prediction))
        while len(self._pending) >= self._window or (self._pending and not self._pending[0].empty()):
            yield self._oldest()

    def rest(self) -> Iterator[T]:
        """Waits for all that is left."""
        while self._pending:
            yield self._oldest()

    def _oldest(self) -> T:
        result = self._pending.popleft().get()
        if isinstance(result, Exception):
            raise result
        return result

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(Empty):
            while True:
                self._jobs.get_nowait()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(_JOIN_S)

    def _work(self) -> None:
        while task := self._jobs.get():
            job, prediction = task
            try:
                prediction.put(job())
            except Exception as error:  # raised again where the result is taken
                prediction.put(error)


class Writers:
    """A crew whose jobs each write a picture, or find that it is not there any more: a context manager.

    Args:
        window: See ``Crew``, as is ``workers``.

    Attributes:
        written: How many were written.
        gone: How many could not be read any more.
    """

    def __init__(self, window: int = 32, workers: int | None = None) -> None:
        self._pool = OrderedPool[bool](window, workers)
        self.written = self.gone = 0

    def hand_over(self, job: Callable[[], bool]) -> None:
        """Hands over what tells whether it wrote.

        Raises:
            Exception: What an earlier job raised.
        """
        self._count(self._pool.do(job))

    def finish(self) -> None:
        """Hands over what was kept back; called where the run went well."""

    def _count(self, done: Iterator[bool]) -> None:
        for is_written in done:
            self.written += is_written
            self.gone += not is_written

    def __enter__(self) -> Self:
        self._pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.finish()
                self._count(self._pool.rest())
        finally:
            self._pool.__exit__(kind, error, trace)
