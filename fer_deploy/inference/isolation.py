"""A picture on which a decoder crashes costs its row, not the run.

Decoders are C code, and on a damaged file one may end the whole process (SIGSEGV). To decode in processes of their own
would cost every run for what nearly none has, so pictures are decoded by threads, and the run as a whole is a forked
process: a fork before anything is imported takes about a millisecond. Which pictures are being read stands in shared
memory. When the process crashes, each of these is read once in a process that may crash for it alone; those that did
become rows with that reason, and a new process goes on with the table as ``--resume`` does.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from fer_deploy.images.sources import Source

CRASHES: Final = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)
_HANDED_ON: Final = {
    signal.SIGINT: signal.SIGUSR1,
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGHUP: signal.SIGHUP,
}
"""What the parent gets, and what the child gets of it."""
_SLOTS: Final = 64
_SLOT_BYTES: Final = 8192
"""A path has 4096 bytes at most, and a name inside an archive may follow."""
_TRIAL_S: Final = 60
_PR_SET_PDEATHSIG: Final = 1


class CrashGuard:
    """What is being read, in memory that outlives the process.

    Attributes:
        crashed: Why a picture is not read again, by its name.
        attempt: How many processes crashed before this one.
    """

    def __init__(self) -> None:
        self.crashed: dict[str, str] = {}
        self.attempt = 0
        self._memory = mmap.mmap(-1, _SLOTS * _SLOT_BYTES)
        self._numbers = count()
        self._own = threading.local()

    def watched(self, sources: Iterable[Source]) -> Iterator[Source]:
        """Gives the same sources; reading one notes its name for as long as it takes."""
        from fer_deploy.images.sources import Source

        for source in sources:
            clip = None if source.clip is None else partial(self._clip, source)
            yield Source(source.name, partial(self._read, source), clip)

    def _read(self, source: Source) -> Any:
        if source.name in self.crashed:
            from fer_deploy.errors import ImageError

            raise ImageError(self.crashed[source.name])
        with self._noted(source.name):
            return source.read()

    def _clip(self, source: Source, backend: Any) -> Iterator[Any]:
        if source.name in self.crashed:
            from fer_deploy.inference.prediction import Prediction

            yield [Prediction.failed(source.name, self.crashed[source.name])]
        elif source.clip is not None:
            with self._noted(source.name), closing(source.clip(backend)) as rows:
                yield from rows

    @contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        start = self._slot()
        content = os.fsencode(name)[: _SLOT_BYTES - 4]
        self._memory[start : start + 4 + len(content)] = len(content).to_bytes(4, "little") + content
        try:
            yield
        finally:
            self._memory[start : start + 4] = bytes(4)

    def _slot(self) -> int:
        if not hasattr(self._own, "start"):
            self._own.start = next(self._numbers) % _SLOTS * _SLOT_BYTES
        return int(self._own.start)

    def take_unfinished(self) -> list[str]:
        """Gives the names that were being read when a process ended, and forgets them."""
        names = []
        for start in range(0, len(self._memory), _SLOT_BYTES):
            if length := int.from_bytes(self._memory[start : start + 4], "little"):
                names.append(os.fsdecode(self._memory[start + 4 : start + 4 + length]))
                self._memory[start : start + 4] = bytes(4)
        return names


def run_isolated(sources: Callable[[], Iterable[Source]], read_video: Callable[[str], object]) -> CrashGuard | None:
    """Forks. The child comes back from here and does the work; the parent stays, and exits as the child does.

    To be called while the process has one thread.

    Args:
        sources: Makes the sources of the run, to find those again that were being read.
        read_video: Reads a video of that path to its end, to find out whether that crashes.

    Returns:
        In the child, what is to watch the sources of the run; None where a process cannot be forked safely.
    """
    if not sys.platform.startswith("linux") or threading.active_count() > 1:
        return None
    watch, parent = CrashGuard(), os.getpid()
    while True:
        _flush()
        child = os.fork()
        if child == 0:
            _begin_child(parent)
            return watch
        status = _wait(child)
        if not os.WIFSIGNALED(status):
            _exit(os.waitstatus_to_exitcode(status))
        name = signal.Signals(os.WTERMSIG(status)).name
        if os.WTERMSIG(status) not in CRASHES:  # somebody killed it
            _exit(128 + os.WTERMSIG(status))
        culprits = _culprits(watch.take_unfinished(), sources, read_video)
        if not culprits:
            print(
                f"fer-deploy: the process crashed ({name}), and none of the pictures that were being read does that "
                "alone; the rows so far are valid; --resume goes on",
                file=sys.stderr,
            )
            _exit(1)
        watch.crashed |= culprits
        watch.attempt += 1


def _wait(child: int) -> int:
    """Waits, and hands on what should end the command."""
    before = {number: signal.getsignal(number) for number in _HANDED_ON}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, partial(_hand_on, child))
    try:
        return os.waitpid(child, 0)[1]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hand_on(child: int, number: int, frame: object) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, _HANDED_ON[signal.Signals(number)])


def _begin_child(parent: int) -> None:
    """Has the kernel kill this process when its parent ends, so that a killed run is one that has stopped.

    An interrupt comes from the parent as another signal: a terminal sends it to both, and twice would be once too much.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGUSR1, signal.default_int_handler)
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _exit(code: int) -> NoReturn:
    _flush()
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # as it is where the shell has closed it
            stream.flush()


def _culprits(
    names: list[str], sources: Callable[[], Iterable[Source]], read_video: Callable[[str], object]
) -> dict[str, str]:
    """Reads each picture in a process of its own; gives the reason for each that crashes."""
    found = {}
    for name in names:
        child = os.fork()
        if child == 0:
            _try(name, sources, read_video)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) in CRASHES:
            found[name] = f"the decoder crashed ({signal.Signals(os.WTERMSIG(status)).name})"
    return found


def _try(name: str, sources: Callable[[], Iterable[Source]], read_video: Callable[[str], object]) -> NoReturn:
    try:
        signal.alarm(_TRIAL_S)
        source = next(source for source in sources() if source.name == name)
        if source.clip is None:
            source.read()
        else:
            read_video(source.name)
    finally:
        os._exit(0)
