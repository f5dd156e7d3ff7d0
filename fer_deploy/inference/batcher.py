"""Single pictures from many threads, gathered into batches for one model.

Threads take what waits, up to a limit, and run it; what comes meanwhile makes the next batch. So a picture that comes
alone starts at once, and the busier it gets, the larger the batches are: nothing ever waits for a clock.

No lock is held while a caller hands a picture over: an interrupt (Ctrl-C) at any point leaves nothing taken.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread, current_thread
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_deploy.backends.base import Backend
from fer_deploy.errors import BackendError
from fer_deploy.inference.prediction import Prediction

LIMIT: Final = 64
"""Pictures per batch at most."""
WORKERS: Final = 2
"""While one batch is computed, the results of another are handed out and the next one is put together."""


class _Waiting(NamedTuple):
    name: str
    pixels: NDArray[np.uint8]
    future: Future[Prediction]


class DynamicBatcher:
    """Runs single pictures in batches; all methods are thread-safe.

    Args:
        backend: An open one, whose ``run`` may be called by several threads.
        limit: Pictures per batch at most.
        workers: Threads that run batches.
    """

    def __init__(self, backend: Backend, limit: int = LIMIT, workers: int = WORKERS) -> None:
        self._backend = backend
        self._limit = limit
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._closed = False
        self._ended = False
        self._threads = [Thread(target=self._work, name=f"gather-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()
        atexit.register(self.close)

    def submit(self, name: str, read: Callable[[], NDArray[np.uint8]]) -> Future[Prediction]:
        """Hands a picture over.

        Args:
            name: The prediction's ``path``.
            read: Gives the picture, uint8 (48, 48, 1); called here, and what it raises is the future's error.

        Raises:
            BackendError: It is closed.
        """
        if self._closed:
            raise BackendError("The classifier is closed and takes no more pictures: load another one")
        future: Future[Prediction] = Future()
        try:
            pixels = read()
        except Exception as error:  # whatever it is, it is this picture's own
            future.set_exception(error)
            return future
        self._queue.put(_Waiting(name, pixels, future))
        if self._ended:  # closed meanwhile, by another thread
            self._give_up()
        return future

    def close(self) -> None:
        """Finishes what waits and ends the threads; can be called again."""
        if self._closed:
            return
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            if thread is not current_thread():  # called from a future's callback
                thread.join()
        self._ended = True
        self._give_up()
        atexit.unregister(self.close)

    def _work(self) -> None:
        last = False
        while not last:
            first = self._queue.get()
            if first is None:
                return
            waiting = [first]
            with suppress(Empty):
                while len(waiting) < self._limit and not last:
                    entry = self._queue.get_nowait()
                    if entry is None:
                        last = True
                    else:
                        waiting.append(entry)
            self._run([each for each in waiting if each.future.set_running_or_notify_cancel()])

    def _run(self, waiting: list[_Waiting]) -> None:
        if not waiting:
            return
        try:
            batch = np.stack([each.pixels for each in waiting])
            predictions = self._backend.run(batch) if len(batch) == 1 else self._backend.run_concurrent(batch)
            found = [Prediction.of(each.name, row) for each, row in zip(waiting, predictions, strict=True)]
        except BaseException as error:
            for each in waiting:
                each.future.set_exception(error)
            return
        for each, prediction in zip(waiting, found, strict=True):
            each.future.set_result(prediction)

    def _give_up(self) -> None:
        """Fails what came too late."""
        with suppress(Empty):
            while True:
                entry = self._queue.get_nowait()
                if entry is not None and entry.future.set_running_or_notify_cancel():
                    entry.future.set_exception(BackendError("The classifier was closed before this picture's turn"))
