"""One form of a model in a process of its own, which is told what to measure a turn at a time.

So each form's memory and start are its own, and a runtime that crashes takes no other row with it. Parent and child
talk in lines of JSON.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from fer_deploy.backends.trial import ending
from fer_deploy.errors import BackendError, BundleError, FerDeployError, MissingDependencyError, UnavailableError

SKIPPED: Final = "skipped"
FAILED: Final = "failed"
DAMAGED: Final = "damaged"
_STATUS: Final = Path("/proc/self/status")
_PROGRAM: Final = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from fer_deploy.evaluation.bench_process import serve
serve(sys.argv[2])
"""
_PAUSE_S: Final = 0.02
_MOST_PAUSES: Final = 25
_ERRORS: Final = {SKIPPED: UnavailableError, FAILED: BackendError, DAMAGED: BundleError}

Answer = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """What a process opens.

    Args:
        bundle: The bundle's folder.
        backend: Its name.
        precision: What it is asked for.
        device: ``auto``, ``cpu``, ``cuda``, ...
        threads: Threads of the runtime; None leaves it to the backend.
        graph: Whether CUDA graphs are used; None where there is no such choice.
    """

    bundle: str
    backend: str
    precision: str
    device: str = "auto"
    threads: int | None = None
    graph: bool | None = None


class FormProcess:
    """A process that holds one form open.

    Args:
        entry: What it opens.
        cache: The folder that runtimes keep compiled models in.
        limit_s: Seconds that it may take for opening, and beyond what is asked for, for each answer.

    Attributes:
        ready: What it told of itself; ``cold_start_s`` is the time from process start to its first answer.

    Raises:
        UnavailableError: This machine or bundle does not have what it needs; with the reason.
        BackendError: It should run here, and does not.
        BundleError: A file is not the one that the manifest names.
    """

    def __init__(self, entry: Entry, cache: str, limit_s: float) -> None:
        self._limit_s = limit_s
        self._chatter = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        self._unread = b""
        # the same modules as here, and not those that happen to lie in the folder that the user works in (-P)
        command = [sys.executable, "-P", "-c", _PROGRAM, json.dumps(sys.path), json.dumps(asdict(entry))]
        begun = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._chatter,
            env={**os.environ, "XDG_CACHE_HOME": cache, "TF_FORCE_GPU_ALLOW_GROWTH": "true"},
        )
        try:
            self.ready = self._answer(limit_s)
            self.ready["cold_start_s"] = time.perf_counter() - begun
        except BaseException:
            self.close()
            raise

    def ask(self, do: str, seconds: float = 0.0, **what: Any) -> Answer:
        """Has something done and gives the answer.

        Args:
            do: The name of what ``serve`` can do.
            seconds: How long that is meant to take.
            what: Its details.

        Raises:
            UnavailableError, BackendError, BundleError: As it failed there; a crash and a time-out are a BackendError.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # how it ended is told by the missing answer
            self._process.stdin.write(json.dumps({"do": do, "seconds": seconds, **what}).encode() + b"\n")
            self._process.stdin.flush()
        return self._answer(seconds + self._limit_s)

    def _answer(self, limit_s: float) -> Answer:
        assert self._process.stdout is not None
        stop, pipe = time.monotonic() + limit_s, self._process.stdout.fileno()
        while b"\n" not in self._unread:
            if not select.select([pipe], [], [], max(0.0, stop - time.monotonic()))[0]:
                raise BackendError(f"it took longer than {limit_s:g} s")
            piece = os.read(pipe, 1 << 20)
            if not piece:
                raise BackendError(f"it {ending(self._process.wait(), self._chatter)}")
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        answer: Answer = json.loads(line)
        if "refused" in answer:
            raise _ERRORS[answer["refused"]](answer["reason"])
        return answer

    def close(self) -> None:
        """Ends the process; it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._chatter):
            if file is not None:
                with suppress(BrokenPipeError):
                    file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve(argument: str) -> None:
    """Opens a form and does what the lines on stdin ask for, until there are no more: the child's side.

    Args:
        argument: An ``Entry`` as JSON.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a runtime's own chatter must not come between
    try:
        _serve(Entry(**json.loads(argument)), answers)
    except (MissingDependencyError, UnavailableError) as error:
        _tell(answers, {"refused": SKIPPED, "reason": _one_line(error)})
    except BundleError as error:
        _tell(answers, {"refused": DAMAGED, "reason": _one_line(error)})
    except FerDeployError as error:
        _tell(answers, {"refused": FAILED, "reason": _one_line(error)})


def _serve(entry: Entry, answers: IO[str]) -> None:
    import numpy as np

    from fer_deploy.backends.base import Backend
    from fer_deploy.bundle import Bundle
    from fer_deploy.evaluation.forms import Form, open_form
    from fer_deploy.labels import INPUT_SHAPE

    begun = time.perf_counter()
    _import_runtime(entry.backend)
    imported = time.perf_counter()
    bundle = Bundle.load(entry.bundle)
    options: Mapping[str, Any] = {} if entry.graph is None else {"graph": entry.graph}
    backend: Backend = open_form(bundle, Form(entry.backend, entry.precision), entry.device, entry.threads, **options)
    with backend:
        opened = time.perf_counter()
        backend.run(np.zeros((1, *INPUT_SHAPE), np.uint8))
        told = {name: getattr(backend, name) for name in ("effective", "device", "runtime", "gpu", "simulated")}
        _tell(answers, {"import_s": imported - begun, "open_s": opened - imported, **told})
        _measure(backend, answers)


def _measure(backend: Any, answers: IO[str]) -> None:
    from fer_deploy.evaluation.latency import Stopwatch, Task

    watches: dict[Task, Stopwatch] = {}
    for line in sys.stdin:
        wanted = json.loads(line)
        if wanted["do"] == "memory":
            _tell(answers, {"peak_memory_mib": _peak_memory_mib()})
            continue
        task = Task(*wanted["task"])
        if task not in watches:
            watches[task] = Stopwatch(backend, task)
        watch = watches[task]
        if wanted["do"] == "warm_up":
            watch.warm_up(wanted["seconds"] / 20, wanted["seconds"])
        elif wanted["do"] == "turn":
            watch.turn(wanted["seconds"])
        wait_until_idle()
        _tell(answers, watch.outcome() if wanted["do"] == "outcome" else {})


def wait_until_idle(
    used_s: Callable[[], float] = time.process_time, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Waits until this process uses no CPU any more, so that it takes nothing from whose turn is next.

    ONNX Runtime's threads spin for about 40 ms after each run; those of OpenVINO and TensorFlow sleep at once.

    Args:
        used_s: CPU time of this process so far.
        sleep: Lets so many seconds pass.
    """
    before = used_s()
    for _ in range(_MOST_PAUSES):
        sleep(_PAUSE_S)
        now = used_s()
        if now - before < _PAUSE_S / 10:
            return
        before = now


def _import_runtime(backend: str) -> None:
    """Imports what a backend needs as far as it is there; that something is missing is told when it is opened."""
    from fer_deploy.backends.quiet import quiet
    from fer_deploy.backends.registry import backend_class

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet():
        for name in (name for entry in backend_class(backend).modules[:1] for name in entry.split("|")):
            with suppress(Exception):
                import_module(name)
                return


def _peak_memory_mib() -> float | None:
    """The most memory that this process has had resident; None where the system does not tell.

    ``ru_maxrss`` would hold the parent's peak too where the process was started by vfork.
    """
    with suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None


def _tell(answers: IO[str], answer: Answer) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
