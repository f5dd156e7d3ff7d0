"""Reads pictures by several threads, ahead of who wants them and in order.

Not a ``ThreadPoolExecutor``: an interrupt (Ctrl-C) that hits the main thread inside ``submit`` can leave one of its
locks taken, and its shutdown then waits forever (seen, about once in a hundred interrupts). Here the main thread only
uses ``SimpleQueue``, whose every operation is either done or not done when an interrupt comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import ImageError
from fer_deploy.images.sources import Source

_JOIN_S: Final = 10  # one decoding takes less; a thread stuck in a dead file system is left behind


@dataclass(frozen=True, slots=True)
class Decoded:
    """A source that was read: ``pixels`` (uint8, shape (48, 48, 1)), or the reason why there are none."""

    name: str
    pixels: NDArray[np.uint8] | None
    reason: str = ""


Answer = SimpleQueue[Decoded]
Task = tuple[Source, Answer]


def decode_ahead(sources: Iterable[Source], workers: int, window: int) -> Generator[Decoded, None, None]:
    """Reads sources.

    Args:
        sources: Consumed lazily, in the calling thread.
        workers: Threads; they end when the generator ends or is closed.
        window: How many sources are taken ahead of the consumer at most.

    Yields:
        What became of each source, in order; a source that cannot be read never ends it.
    """
    tasks: SimpleQueue[Task | None] = SimpleQueue()
    pending: deque[Answer] = deque()
    threads = [Thread(target=_work, args=(tasks,), name=f"decode-{n}", daemon=True) for n in range(workers)]
    try:
        for thread in threads:
            thread.start()
        for source in sources:
            answer: Answer = SimpleQueue()
            pending.append(answer)
            tasks.put((source, answer))
            if len(pending) >= window:
                yield pending.popleft().get()
        while pending:
            yield pending.popleft().get()
    finally:
        with suppress(Empty):  # what has not begun is not wanted any more
            while True:
                tasks.get_nowait()
        for _ in threads:
            tasks.put(None)
        for thread in threads:
            if thread.is_alive():
                thread.join(_JOIN_S)


def _work(tasks: SimpleQueue[Task | None]) -> None:
    while task := tasks.get():
        source, answer = task
        answer.put(_read(source))


def _read(source: Source) -> Decoded:
    try:
        return Decoded(source.name, source.read())
    except ImageError as error:
        return Decoded(source.name, None, str(error))
    except Exception as error:  # out of memory, a disk that fails: it costs this row, and the row tells
        return Decoded(source.name, None, f"{type(error).__name__}: {error}")
