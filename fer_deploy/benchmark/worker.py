"""The child's side of ``bench_process``: opens one form and does what it is told.

A cold start is measured here, so nothing is imported that the form itself does not need.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from fer_deploy.errors import BundleError, FerDeployError, MissingDependencyError, UnavailableError, one_line

SKIPPED: Final = "skipped"
FAILED: Final = "failed"
DAMAGED: Final = "damaged"
"""How a form can be refused."""
_STATUS: Final = Path("/proc/self/status")
_PAUSE_S: Final = 0.02
_MOST_PAUSES: Final = 25

Reply = dict[str, Any]


@dataclass(frozen=True)
class WorkerEntry:
    """What a process opens.

    Args:
        bundle: The bundle's folder.
        backend: Its name.
        precision: What it is asked for.
        device: ``auto``, ``cpu``, ``cuda``, ...
        threads: Threads of the runtime; None leaves it to the backend.
        graph: Whether CUDA graphs are used; None where there is no such choice.
        settings: Those of ``BackendSettings``; None for what is recorded.
    """

    bundle: str
    backend: str
    precision: str
    device: str = "auto"
    threads: int | None = None
    graph: bool | None = None
    settings: tuple[int | None, int | None, int | None] | None = None


def serve(argument: str) -> None:
    """Opens a form and does what the lines on stdin ask for, until there are no more.

    Args:
        argument: An ``WorkerEntry`` as JSON.
    """
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a runtime's own chatter must not come between
    try:
        _serve(WorkerEntry(**json.loads(argument)), replies)
    except (MissingDependencyError, UnavailableError) as error:
        _report(replies, {"refused": SKIPPED, "reason": one_line(error, 500)})
    except BundleError as error:
        _report(replies, {"refused": DAMAGED, "reason": one_line(error, 500)})
    except FerDeployError as error:
        _report(replies, {"refused": FAILED, "reason": one_line(error, 500)})


def _serve(entry: WorkerEntry, replies: IO[str]) -> None:
    import numpy as np

    from fer_deploy.backends.base import Backend, BackendSettings
    from fer_deploy.bundle.manifest import Bundle
    from fer_deploy.labels import INPUT_SHAPE
    from fer_deploy.verification.variants import ModelVariant, open_variant

    started = time.perf_counter()
    _import_runtime(entry.backend)
    imported = time.perf_counter()
    bundle = Bundle.load(entry.bundle)
    options: dict[str, Any] = {} if entry.graph is None else {"graph": entry.graph}
    if entry.settings is not None:
        options["settings"] = BackendSettings(*entry.settings)
    backend: Backend = open_variant(
        bundle, ModelVariant(entry.backend, entry.precision), entry.device, entry.threads, **options
    )
    with backend:
        opened = time.perf_counter()
        backend.run(np.zeros((1, *INPUT_SHAPE), np.uint8))
        reported = {name: getattr(backend, name) for name in ("effective", "device", "runtime", "gpu", "simulated")}
        _report(replies, {"import_s": imported - started, "open_s": opened - imported, **reported})
        _measure(backend, replies)


def _measure(backend: Any, replies: IO[str]) -> None:
    from fer_deploy.benchmark.stopwatch import THROUGHPUT, Stopwatch, Task

    watches: dict[Task, Stopwatch] = {}
    for line in sys.stdin:
        wanted = json.loads(line)
        if wanted["do"] == "memory":
            _report(replies, {"peak_memory_mib": _peak_memory_mib()})
            continue
        task = Task(*wanted["task"])
        if task not in watches:
            watches[task] = Stopwatch(backend, task)
        watch = watches[task]
        reply: Reply = {}
        if wanted["do"] == "warm_up":
            watch.warm_up(wanted["seconds"] / 20, wanted["seconds"])
            streams, threads = backend.parallelism(task.mode == THROUGHPUT)
            reply |= {"streams": streams, "threads": threads}
        elif wanted["do"] == "turn":
            reply["images_per_s"] = watch.turn(wanted["seconds"], wanted.get("least", 1))
        else:
            reply = watch.outcome()
        wait_until_idle()
        _report(replies, reply)


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
    from fer_deploy.backends.registry import backend_class
    from fer_deploy.system.quiet import quiet

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet(), suppress(Exception):
        backend_class(backend).import_runtime()


def _peak_memory_mib() -> float | None:
    """The most memory that this process has had resident; None where the system does not tell.

    ``ru_maxrss`` would hold the parent's peak too where the process was started by vfork.
    """
    with suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None


def _report(replies: IO[str], reply: Reply) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()
