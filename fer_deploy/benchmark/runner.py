"""Measures the speed of every form of a model side by side: what ``fer-deploy bench`` does.

All forms are open at once, each in a process of its own that sleeps while it is not its turn. In every round each row
is measured for a part of its time, in an order that is drawn anew, so that what disturbs the machine meanwhile falls on
all alike.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from fer_deploy.benchmark.results import BenchSettings, SpeedRow, known_accuracy
from fer_deploy.benchmark.stopwatch import Task
from fer_deploy.benchmark.worker import WorkerEntry
from fer_deploy.benchmark.worker_process import WorkerProcess
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import BackendError, UnavailableError
from fer_deploy.system.machine import machine_info
from fer_deploy.verification.variants import NULL, ModelVariant, Selection
from fer_deploy.verification.verifier import FAILED, OK, SKIPPED

_STARTS: Final = 3
LIMIT_S: Final = 300.0
"""For opening a form, which may mean building an engine, and beyond the time that is asked for."""
_SEED: Final = 2013
_REPORTED: Final = (
    *("effective", "simulated", "device", "runtime"),
    *("import_s", "load_s", "compile_s", "cold_start_s", "first_start_s", "peak_memory_mib"),
)
"""What holds for all rows of a form."""


@dataclass
class BenchCandidate:
    """A form, the process that holds it open, and what became of both."""

    variant: ModelVariant
    graph: bool | None = None
    process: WorkerProcess | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    figures: dict[Task, dict[str, Any]] = field(default_factory=dict)
    status: str = OK
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.variant}{'' if self.graph is not False else ' without CUDA graphs'}"

    def ask(self, do: str, seconds: float = 0.0, **what: Any) -> dict[str, Any]:
        """Asks the process; where it fails, so has the form: its process is ended."""
        assert self.process is not None
        try:
            return self.process.ask(do, seconds, **what)
        except BackendError as error:
            self.fail(FAILED, error)
            return {}

    def fail(self, status: str, error: Exception) -> None:
        """Notes why there are no figures."""
        self.status, self.reason = status, str(error)
        if self.process is not None:
            self.process.close()

    def task_of(self, task: Task) -> dict[str, Any]:
        """What tells the process which row is meant."""
        return {"task": list(task)}


def bench(bundle: Bundle, selection: Selection, settings: BenchSettings | None = None) -> tuple[SpeedRow, ...]:
    """Measures every selected form with every batch size in every mode.

    Args:
        bundle: Whose forms.
        selection: Which forms.
        settings: How.

    Returns:
        Rows in the order of the selection; one for each form that cannot run here, with the reason.

    Raises:
        UnavailableError: No form of a backend that the user named can run here, or no form at all on that device.
        BundleError: A file is not the one that the manifest names: nothing is run on trust.
    """
    settings = settings or BenchSettings()
    with ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="fer-deploy-bench-"))
        candidates: list[BenchCandidate] = []
        for number, variant in enumerate(selection.variants):
            settings.progress(f"open {variant}", number, len(selection.variants))
            candidates += _enter(bundle, variant, settings, cache, stack)
        _check_named(selection, candidates)
        turns = [(candidate, task) for candidate in candidates if candidate.status == OK for task in settings.tasks]
        _warm_up(turns, settings)
        for candidate in candidates:
            if candidate.status == OK:
                candidate.facts |= candidate.ask("memory")
        _take_turns(turns, settings)
        for candidate, task in turns:
            if candidate.status == OK:
                candidate.figures[task] = candidate.ask("outcome", **candidate.task_of(task))
    return tuple(row for candidate in candidates for row in _rows(bundle, candidate, settings))


def order_of_rounds(count: int, rounds: int) -> list[list[int]]:
    """Draws, for each round, the order in which the rows 0 to ``count - 1`` have their turns; seeded."""
    draw = random.Random(_SEED)
    return [draw.sample(range(count), count) for _ in range(rounds)]


def _enter(
    bundle: Bundle, variant: ModelVariant, settings: BenchSettings, cache: str, stack: ExitStack
) -> list[BenchCandidate]:
    """Opens a form, with TensorRT once more without CUDA graphs."""
    graphs: Sequence[bool | None] = (True, False) if variant.backend == "trt" else (None,)
    candidates: list[BenchCandidate] = []
    for graph in graphs:
        candidate = BenchCandidate(variant, graph)
        entry = WorkerEntry(str(bundle.path.resolve()), *variant, settings.device, settings.threads, graph)
        try:
            candidate.facts = _start(candidate, entry, settings, cache, stack)
        except UnavailableError as error:
            candidate.fail(SKIPPED, error)
        except BackendError as error:
            candidate.fail(FAILED, error)
        candidates.append(candidate)
        if candidate.status != OK:
            break
    return candidates


def _start(
    candidate: BenchCandidate, entry: WorkerEntry, settings: BenchSettings, cache: str, stack: ExitStack
) -> dict[str, Any]:
    """Starts a form with nothing in its cache, then as it starts from the second time on; the last process stays."""
    with WorkerProcess(entry, cache, LIMIT_S) as first:
        facts = {**first.ready, "compile_s": first.ready["open_s"], "first_start_s": first.ready["cold_start_s"]}
    starts = []
    started = time.monotonic()
    while True:
        process = WorkerProcess(entry, cache, LIMIT_S)
        starts.append(process.ready)
        if len(starts) == _STARTS or time.monotonic() - started > settings.duration_s:
            break
        process.close()
    stack.callback(process.close)
    candidate.process = process
    middle = {name: statistics.median(start[name] for start in starts) for name in ("cold_start_s", "import_s")}
    return {**facts, **middle, "load_s": statistics.median(start["open_s"] for start in starts)}


def _check_named(selection: Selection, candidates: Sequence[BenchCandidate]) -> None:
    for name in sorted(selection.named):
        of_backend = [candidate for candidate in candidates if candidate.variant.backend == name]
        if of_backend and all(candidate.status == SKIPPED for candidate in of_backend):
            raise UnavailableError(of_backend[0].reason)
    real = [candidate for candidate in candidates if candidate.variant != NULL]
    if real and not selection.required and all(candidate.status == SKIPPED for candidate in real):
        reasons = dict.fromkeys(candidate.reason or "" for candidate in real)
        raise UnavailableError(f"Nothing can be measured here: {'; '.join(reasons)}")


def _warm_up(turns: Sequence[tuple[BenchCandidate, Task]], settings: BenchSettings) -> None:
    for number, (candidate, task) in enumerate(turns):
        settings.progress(f"warm up {candidate}", number, len(turns))
        if candidate.status == OK:
            candidate.ask("warm_up", settings.duration_s, **candidate.task_of(task))


def _take_turns(turns: Sequence[tuple[BenchCandidate, Task]], settings: BenchSettings) -> None:
    total, done = len(turns) * settings.rounds, 0
    for order in order_of_rounds(len(turns), settings.rounds):
        for place in order:
            candidate, task = turns[place]
            settings.progress(f"measure {candidate}", done, total)
            done += 1
            if candidate.status == OK:
                candidate.ask("turn", settings.duration_s / settings.rounds, **candidate.task_of(task))


def _rows(bundle: Bundle, candidate: BenchCandidate, settings: BenchSettings) -> list[SpeedRow]:
    """Makes the rows of a form: one for each task, or a single one where it did not come to that."""
    variant, facts = candidate.variant, candidate.facts
    if candidate.status != OK:
        row = SpeedRow(*variant, graph=candidate.graph, status=candidate.status, reason=candidate.reason)
        return [row]
    device = facts["device"]
    machine = facts["gpu"] or machine_info()["cpu_class"]
    known = known_accuracy(bundle, variant, device, machine) if variant != NULL else None
    artefact = bundle.find(*variant.artefact) if variant != NULL else None
    return [
        SpeedRow(
            backend=variant.backend,
            precision=variant.precision,
            **{name: facts[name] for name in _REPORTED},
            machine=machine,
            graph=candidate.graph,
            mode=task.mode,
            batch=task.batch,
            accuracy=known.accuracy if known else None,
            accuracy_split=known.split if known else None,
            accuracy_machine=known.machine if known else None,
            artefact_sha256=artefact.sha256 if artefact else None,
            status=OK,
            **candidate.figures[task],
        )
        for task in settings.tasks
    ]
