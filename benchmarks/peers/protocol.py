"""The lines that driver and workers speak. Only the standard library and numpy: workers run in foreign environments.

A worker reads a command per line and answers each with one JSON object on a line; the first line comes unasked.

    (start)         {"ready": true, "versions": {...}, "batches": [...]}, or {"error": "..."}
    tune SECONDS    {"batch": 64, "images_per_s": {"8": ..., "64": ...}}: tries every batch size, keeps the fastest
    run SECONDS     {"n": 1234, "seconds": 2.01}
    answers PATH    {"n": 3589}: the probabilities of all pictures, float32 (N, 7), saved as .npy
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO


@dataclass
class Runner:
    """What a worker measures.

    Args:
        prepared: The pictures in the form that the runtime takes; making it is not timed.
        stream: Takes batches and a batch size, gives the probabilities of each; ``None`` if ``timed`` is given.
        batches: Batch sizes to choose from.
        per_call: Pictures handed over in one go, where that is not the batch size.
        versions: Of the packages in use.
        timed: Measures by itself: takes seconds and a batch size, gives n and seconds.
    """

    prepared: Any = None
    stream: Callable[[Iterable[Any], int], Iterable[Any]] | None = None
    batches: Sequence[int] = (1,)
    per_call: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    timed: Callable[[float, int], tuple[float, float]] | None = None

    def run(self, seconds: float, batch: int) -> tuple[float, float]:
        """Classifies the pictures over and over; gives the count and the seconds that it took."""
        if self.timed is not None:
            return self.timed(seconds, batch)
        assert self.stream is not None
        started = time.perf_counter()
        n = sum(len(prediction) for prediction in self.stream(self._slices(batch, started + seconds), batch))
        return n, time.perf_counter() - started

    def predictions(self, batch: int) -> list[Any]:
        """Gives every picture's probabilities once."""
        assert self.stream is not None
        return [row for prediction in self.stream(self._slices(batch, None), batch) for row in prediction]

    def _slices(self, batch: int, stop: float | None) -> Iterator[Any]:
        """Cuts the pictures into full batches until the time is over (at least one), or into all once."""
        size, start = min(self.per_call or batch, len(self.prepared)), 0
        if stop is None:
            yield from (self.prepared[n : n + size] for n in range(0, len(self.prepared), size))
            return
        while True:
            yield self.prepared[start : start + size]
            start = start + size if start + 2 * size <= len(self.prepared) else 0
            if time.perf_counter() >= stop:
                return


def serve(load: Callable[[], Runner]) -> None:
    """Loads and obeys until standard input ends. What libraries print goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        runner = load()
        batch = runner.batches[0]
        _say(out, {"ready": True, "versions": runner.versions, "batches": list(runner.batches)})
        for line in sys.stdin:
            command, _, value = line.strip().partition(" ")
            if command == "tune":
                rates = {size: _rate(runner, float(value), size) for size in runner.batches}
                batch = max(rates, key=lambda size: rates[size])
                _say(out, {"batch": batch, "images_per_s": rates})
            elif command == "run":
                n, seconds = runner.run(float(value), batch)
                _say(out, {"n": n, "seconds": seconds})
            elif command == "answers":
                import numpy as np

                found = np.asarray(runner.predictions(batch), np.float32)
                np.save(value, found)
                _say(out, {"n": len(found)})
            else:
                _say(out, {"error": f"there is no command {command!r}"})
    except Exception as error:  # a row with its reason, whatever a runtime raises
        _say(out, {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"})


def _rate(runner: Runner, seconds: float, batch: int) -> float:
    runner.run(0, batch)  # the first call of a size may compile
    n, took = runner.run(seconds, batch)
    return n / took


def _say(out: TextIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


class WorkerError(Exception):
    """A worker could not do what it was told; the text is the reason, on one line."""


class Worker:
    """A worker process, as the driver sees it; waits while it is told nothing.

    Args:
        command: What to run.
        log: Where its standard error goes.
        env: Its environment variables.
    """

    def __init__(self, command: Sequence[str], log: Path, env: dict[str, str] | None = None) -> None:
        self._log = log
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=env
            )
        try:
            self.ready = self._prediction()
        except WorkerError:
            self.close()
            raise

    def ask(self, command: str) -> dict[str, Any]:
        """Sends a command and waits for its answer.

        Raises:
            WorkerError: It failed, or the process has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except OSError:
            raise WorkerError(self._end()) from None
        return self._prediction()

    def _prediction(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(self._end())
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise WorkerError(message["error"])
        return message

    def _end(self) -> str:
        code = self._process.wait()
        last = (self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        return f"the worker ended with exit code {code}: {last[:400]}"

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):  # it may have ended already
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
