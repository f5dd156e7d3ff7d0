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
from fer_deploy.benchmark.worker_process import FormProcess
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import BackendError, UnavailableError
from fer_deploy.system.machine import machine_info
from fer_deploy.verification.variants import NULL, Form, Selection
from fer_deploy.verification.verifier import FAILED, OK, SKIPPED

_STARTS: Final = 3
LIMIT_S: Final = 300.0
"""For opening a form, which may mean building an engine, and beyond the time that is asked for."""
_SEED: Final = 2013
_TOLD: Final = (
    *("effective", "simulated", "device", "runtime"),
    *("import_s", "load_s", "compile_s", "cold_start_s", "first_start_s", "peak_memory_mib"),
)
"""What holds for all rows of a form."""


@dataclass
class Entrant:
    """A form, the process that holds it open, and what became of both."""

    form: Form
    graph: bool | None = None
    process: FormProcess | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    figures: dict[Task, dict[str, Any]] = field(default_factory=dict)
    status: str = OK
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.form}{'' if self.graph is not False else ' without CUDA graphs'}"

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
        entrants: list[Entrant] = []
        for number, form in enumerate(selection.forms):
            settings.progress(f"open {form}", number, len(selection.forms))
            entrants += _enter(bundle, form, settings, cache, stack)
        _check_named(selection, entrants)
        turns = [(entrant, task) for entrant in entrants if entrant.status == OK for task in settings.tasks]
        _warm_up(turns, settings)
        for entrant in entrants:
            if entrant.status == OK:
                entrant.facts |= entrant.ask("memory")
        _take_turns(turns, settings)
        for entrant, task in turns:
            if entrant.status == OK:
                entrant.figures[task] = entrant.ask("outcome", **entrant.task_of(task))
    return tuple(row for entrant in entrants for row in _rows(bundle, entrant, settings))


def order_of_rounds(count: int, rounds: int) -> list[list[int]]:
    """Draws, for each round, the order in which the rows 0 to ``count - 1`` have their turns; seeded."""
    draw = random.Random(_SEED)
    return [draw.sample(range(count), count) for _ in range(rounds)]


def _enter(bundle: Bundle, form: Form, settings: BenchSettings, cache: str, stack: ExitStack) -> list[Entrant]:
    """Opens a form, with TensorRT once more without CUDA graphs."""
    graphs: Sequence[bool | None] = (True, False) if form.backend == "trt" else (None,)
    entrants: list[Entrant] = []
    for graph in graphs:
        entrant = Entrant(form, graph)
        entry = WorkerEntry(str(bundle.path.resolve()), *form, settings.device, settings.threads, graph)
        try:
            entrant.facts = _start(entrant, entry, settings, cache, stack)
        except UnavailableError as error:
            entrant.fail(SKIPPED, error)
        except BackendError as error:
            entrant.fail(FAILED, error)
        entrants.append(entrant)
        if entrant.status != OK:
            break
    return entrants


def _start(
    entrant: Entrant, entry: WorkerEntry, settings: BenchSettings, cache: str, stack: ExitStack
) -> dict[str, Any]:
    """Starts a form with nothing in its cache, then as it starts from the second time on; the last process stays."""
    with FormProcess(entry, cache, LIMIT_S) as first:
        facts = {**first.ready, "compile_s": first.ready["open_s"], "first_start_s": first.ready["cold_start_s"]}
    starts = []
    begun = time.monotonic()
    while True:
        process = FormProcess(entry, cache, LIMIT_S)
        starts.append(process.ready)
        if len(starts) == _STARTS or time.monotonic() - begun > settings.duration_s:
            break
        process.close()
    stack.callback(process.close)
    entrant.process = process
    middle = {name: statistics.median(start[name] for start in starts) for name in ("cold_start_s", "import_s")}
    return {**facts, **middle, "load_s": statistics.median(start["open_s"] for start in starts)}


def _check_named(selection: Selection, entrants: Sequence[Entrant]) -> None:
    for name in sorted(selection.named):
        of_backend = [entrant for entrant in entrants if entrant.form.backend == name]
        if of_backend and all(entrant.status == SKIPPED for entrant in of_backend):
            raise UnavailableError(of_backend[0].reason)
    real = [entrant for entrant in entrants if entrant.form != NULL]
    if real and not selection.required and all(entrant.status == SKIPPED for entrant in real):
        reasons = dict.fromkeys(entrant.reason or "" for entrant in real)
        raise UnavailableError(f"Nothing can be measured here: {'; '.join(reasons)}")


def _warm_up(turns: Sequence[tuple[Entrant, Task]], settings: BenchSettings) -> None:
    for number, (entrant, task) in enumerate(turns):
        settings.progress(f"warm up {entrant}", number, len(turns))
        if entrant.status == OK:
            entrant.ask("warm_up", settings.duration_s, **entrant.task_of(task))


def _take_turns(turns: Sequence[tuple[Entrant, Task]], settings: BenchSettings) -> None:
    total, done = len(turns) * settings.rounds, 0
    for order in order_of_rounds(len(turns), settings.rounds):
        for place in order:
            entrant, task = turns[place]
            settings.progress(f"measure {entrant}", done, total)
            done += 1
            if entrant.status == OK:
                entrant.ask("turn", settings.duration_s / settings.rounds, **entrant.task_of(task))


def _rows(bundle: Bundle, entrant: Entrant, settings: BenchSettings) -> list[SpeedRow]:
    """Makes the rows of a form: one for each task, or a single one where it did not come to that."""
    form, facts = entrant.form, entrant.facts
    if entrant.status != OK:
        row = SpeedRow(*form, graph=entrant.graph, status=entrant.status, reason=entrant.reason)
        return [row]
    device = facts["device"]
    machine = facts["gpu"] or machine_info()["cpu_class"]
    known = known_accuracy(bundle, form, device, machine) if form != NULL else None
    artefact = bundle.find(*form.artefact) if form != NULL else None
    return [
        SpeedRow(
            backend=form.backend,
            precision=form.precision,
            **{name: facts[name] for name in _TOLD},
            machine=machine,
            graph=entrant.graph,
            mode=task.mode,
            batch=task.batch,
            accuracy=known.accuracy if known else None,
            accuracy_split=known.split if known else None,
            accuracy_machine=known.machine if known else None,
            artefact_sha256=artefact.sha256 if artefact else None,
            status=OK,
            **entrant.figures[task],
        )
        for task in settings.tasks
    ]
