"""Reads pictures by several threads, ahead of who wants them and in order.

Threads are handed several sources at a time: to wake another thread takes as long as to read a small picture. The first
few come one by one, so that a handful of big photos keeps all threads busy. Small pictures gain nothing from threads:
most of their reading holds Python's lock, and at every file that is opened, read and closed the threads take it from
each other. So while sources are quick to read, the caller reads them itself.

Not a ``ThreadPoolExecutor``: an interrupt (Ctrl-C) that hits the main thread inside ``submit`` can leave one of its
locks taken, and its shutdown then waits forever (seen, about once in a hundred interrupts). Here the main thread only
uses ``SimpleQueue``, whose every operation is either done or not done when an interrupt comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import ImageError
from fer_deploy.images.sources import Source

if TYPE_CHECKING:
    from fer_deploy.faces.face import Face

_JOIN_S: Final = 10  # one decoding takes less; a thread stuck in a dead file system is left behind
_TOGETHER: Final = 8
"""Sources handed over at a time at most."""
_SINGLY: Final = 8
"""Sources per thread and source handed over at a time: with two threads, the first 16 come singly, 16 in twos, ..."""
_QUICK_S: Final = 250e-6
"""Sources that mostly take less are read by the caller; a 48x48 PNG takes 60 to 150 microseconds."""
_LONG_S: Final = 20e-3
"""One that takes longer sends the next ones to the threads at once."""


class Decoded(NamedTuple):
    """A source that was read: ``pixels`` (uint8, shape (48, 48, 1)), or the reason why there are none.

    Of a photo that was searched, ``faces`` are what was found, and ``pixels`` all of them, one below the other.
    """

    name: str
    pixels: NDArray[np.uint8] | None
    reason: str = ""
    faces: tuple[Face, ...] | None = None


Answer = SimpleQueue[list[Decoded]]
Task = tuple[list[Source], Answer]


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
    left: list[bool] = []  # anything in it ends the threads; not an Event, which holds a lock
    pending: deque[tuple[int, Answer]] = deque()
    pace = _Pace()
    threads = [Thread(target=_work, args=(tasks, left, pace), name=f"decode-{n}", daemon=True) for n in range(workers)]
    source = iter(sources)
    drawn = ahead = 0
    try:
        for thread in threads:
            thread.start()
        while together := list(islice(source, _how_many(drawn, workers, window))):
            prediction: Answer = SimpleQueue()
            pending.append((len(together), prediction))
            tasks.put((together, prediction))
            drawn += len(together)
            ahead += len(together)
            while ahead + _how_many(drawn, workers, window) > window:
                count, prediction = pending.popleft()
                yield from prediction.get()
                ahead -= count
            if pace.is_quick():
                while pending:
                    yield from pending.popleft()[1].get()
                ahead = 0
                yield from _read_while_quick(source, pace)
        while pending:
            yield from pending.popleft()[1].get()
    finally:
        left.append(True)
        with suppress(Empty):  # what has not begun is not wanted any more
            while True:
                tasks.get_nowait()
        for _ in threads:
            tasks.put(None)
        for thread in threads:
            if thread.is_alive():
                thread.join(_JOIN_S)


def _how_many(drawn: int, workers: int, window: int) -> int:
    """Tells how many sources make the next task: more and more, as long as each thread has two tasks in the window."""
    return max(1, min(_TOGETHER, drawn // (_SINGLY * workers), window // (2 * workers)))


class _Pace:
    """Reads sources, and knows how long the last few took; all threads share one."""

    def __init__(self) -> None:
        self._recent_s = [float("inf")] * _TOGETHER
        self._count = 0

    def read(self, source: Source) -> Decoded:
        """Reads one source here and now."""
        started = perf_counter()
        found = read(source)
        self._recent_s[self._count % _TOGETHER] = perf_counter() - started
        self._count += 1
        return found

    def is_quick(self) -> bool:
        """Tells whether sources are read sooner than handed over; single ones may have waited for a core."""
        recent_s = sorted(self._recent_s)
        return recent_s[_TOGETHER // 2] < _QUICK_S and recent_s[-1] < _LONG_S


def _read_while_quick(sources: Iterator[Source], pace: _Pace) -> Generator[Decoded, None, None]:
    for source in sources:
        yield pace.read(source)
        if not pace.is_quick():
            return


def _work(tasks: SimpleQueue[Task | None], left: list[bool], pace: _Pace) -> None:
    while task := tasks.get():
        sources, prediction = task
        prediction.put([pace.read(source) for source in sources if not left])


def read(source: Source) -> Decoded:
    """Reads one source here and now; what goes wrong becomes the reason."""
    try:
        image = source.read()
        if isinstance(image, tuple):  # a photo's ``Found``
            return Decoded(source.name, image[0], "", image[1])
        return Decoded(source.name, image)
    except ImageError as error:
        return Decoded(source.name, None, str(error))
    except Exception as error:  # out of memory, a disk that fails: it costs this row, and the row tells
        return Decoded(source.name, None, f"{type(error).__name__}: {error}")
