"""One form of a model in a process of its own, which is told what to measure a turn at a time.

So each form's memory and start are its own, and a runtime that crashes takes no other row with it. Parent and child
talk in lines of JSON.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Any, Final, Self

from fer_deploy.benchmark.worker import DAMAGED, FAILED, SKIPPED, Reply, WorkerEntry
from fer_deploy.errors import BackendError, BundleError, UnavailableError
from fer_deploy.system.processes import child_command, describe_exit

_ERRORS: Final = {SKIPPED: UnavailableError, FAILED: BackendError, DAMAGED: BundleError}


class WorkerProcess:
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

    def __init__(self, entry: WorkerEntry, cache: str, limit_s: float) -> None:
        self._limit_s = limit_s
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        self._unread = b""
        command = child_command("fer_deploy.benchmark.worker:serve", asdict(entry))
        started = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            env={**os.environ, "XDG_CACHE_HOME": cache, "TF_FORCE_GPU_ALLOW_GROWTH": "true"},
        )
        try:
            self.ready = self._reply(limit_s)
            self.ready["cold_start_s"] = time.perf_counter() - started
        except BaseException:
            self.close()
            raise

    def ask(self, do: str, seconds: float = 0.0, **what: Any) -> Reply:
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
        return self._reply(seconds + self._limit_s)

    def _reply(self, limit_s: float) -> Reply:
        assert self._process.stdout is not None
        stop, pipe = time.monotonic() + limit_s, self._process.stdout.fileno()
        while b"\n" not in self._unread:
            if not select.select([pipe], [], [], max(0.0, stop - time.monotonic()))[0]:
                raise BackendError(f"it took longer than {limit_s:g} s")
            piece = os.read(pipe, 1 << 20)
            if not piece:
                raise BackendError(f"it {describe_exit(self._process.wait(), self._output)}")
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        reply: Reply = json.loads(line)
        if "refused" in reply:
            raise _ERRORS[reply["refused"]](reply["reason"])
        return reply

    def close(self) -> None:
        """Ends the process; it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._output):
            if file is not None:
                with suppress(BrokenPipeError):
                    file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
