"""Finds the streams, threads and batch size with which a form of a model is fastest: what ``bench --tune`` does.

Each choice of streams and threads is open in a process of its own, and all candidates take turns. After each stage the
slower half is left out. A candidate counts by its ratios to the default in the same rounds, never by its own figures,
so that what disturbs the machine for a while decides nothing.
"""

from __future__ import annotations

import datetime
import random
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from fer_deploy.backends.base import BackendSettings
from fer_deploy.backends.registry import backend_class
from fer_deploy.benchmark.results import Progress
from fer_deploy.benchmark.runner import LIMIT_S
from fer_deploy.benchmark.stopwatch import THROUGHPUT, Task
from fer_deploy.benchmark.worker import WorkerEntry
from fer_deploy.benchmark.worker_process import WorkerProcess
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.bundle.records import Tuned
from fer_deploy.errors import BackendError
from fer_deploy.system.machine import machine_info, usable_cores
from fer_deploy.verification.variants import AUTO, ModelVariant

BATCHES: Final = (8, 16, 32, 64, 128, 256)
TIE: Final = 0.03
"""What is no faster than this fraction below the fastest is as fast; of those the simplest is taken."""
FINALISTS: Final = 3
_ROUNDS: Final = 2
_LAST_ROUNDS: Final = 6
_LEAST: Final = 8
"""Batches in a turn: streams finish together, so that of few batches one more or less would count."""
_SEED: Final = 2013


@dataclass
class Candidate:
    """BackendSettings, and how fast they were.

    Args:
        settings: With a batch size; streams and threads are None where the runtime chooses.
        process: Where they are measured.
        rates: Pictures per second in each round, of the stages that it took part in.
        ratios: The same over the default's of the same round, of the last stage.
    """

    settings: BackendSettings
    process: WorkerProcess
    rates: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times as fast as the default."""
        return statistics.median(self.ratios)

    @property
    def images_per_s(self) -> float:
        """Its median speed."""
        return statistics.median(self.rates)

    @property
    def task(self) -> dict[str, Any]:
        """What tells the process what is meant."""
        assert self.settings.batch is not None
        return {"task": list(Task(THROUGHPUT, self.settings.batch))}


class Tuning(NamedTuple):
    """What was found for a form.

    Args:
        tuned: What is to be remembered.
        candidates: All, fastest first; those that stayed longer before those that were left out.
    """

    tuned: Tuned
    candidates: tuple[Candidate, ...]


def tune(
    bundle: Bundle,
    variant: ModelVariant,
    device: str = AUTO,
    turn_s: float = 0.5,
    progress: Progress = lambda text, done, total: None,
) -> Tuning:
    """Measures a grid of settings of one form and chooses.

    Args:
        bundle: Whose form.
        variant: Which.
        device: ``auto``, ``cpu``, ``cuda``, ...
        turn_s: Seconds for each turn.
        progress: Told how far it is.

    Raises:
        UnavailableError: The form cannot run here.
        BackendError: It failed.
    """
    with ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="fer-deploy-tune-"))

        def start(threads: int | None, streams: int | None) -> WorkerProcess:
            progress(f"open {variant}", 0, 0)
            settings = (threads, streams, None)
            entry = WorkerEntry(str(bundle.path.resolve()), *variant, device, settings=settings)
            return stack.enter_context(WorkerProcess(entry, cache, LIMIT_S))

        plain = start(None, None)
        default = Candidate(BackendSettings(batch=backend_class(variant.backend).default_batch), plain)
        facts = plain.ask("warm_up", turn_s, **default.task)
        processes: dict[tuple[int | None, int | None], WorkerProcess] = {(None, None): plain}
        processes |= {choice: start(*choice) for choice in choices(variant.backend, plain.ready["device"], facts)}
        candidates = [default] + [
            Candidate(BackendSettings(threads, streams, batch), process)
            for (threads, streams), process in processes.items()
            for batch in BATCHES
            if (threads, streams, batch) != default.settings
        ]
        ranked = _knock_out(candidates, turn_s, progress)
    return Tuning(_record(bundle, variant, choose(ranked, default), plain.ready), tuple(ranked))


def choices(backend: str, device: str, default: dict[str, Any]) -> list[tuple[int | None, int | None]]:
    """Lists threads and streams to try beside what the runtime takes by itself.

    OpenVINO divides its threads among streams: one for each core down to one for all. ONNX Runtime has threads alone;
    with hyperthreads, and for networks that a few cores have done sooner, other numbers than that of the cores pay.

    Args:
        backend: Its name.
        device: Only ``cpu`` has such settings.
        default: ``streams`` and ``threads`` that it uses by itself.
    """
    if device != "cpu" or backend not in ("openvino", "onnx"):
        return []
    cores, cpus = usable_cores(), machine_info()["usable_cpus"] or 1
    counts = sorted({max(1, cores // part) for part in (1, 2, 4)} | {1})
    if backend == "onnx":
        return [(n, None) for n in sorted({*counts, cpus}) if n != default["threads"]]
    found = [(None, n) for n in counts if n != default["streams"]]
    return found + ([(cpus, cpus)] if cpus > cores and default["threads"] != cpus else [])


def choose(ranked: Sequence[Candidate], default: Candidate) -> Candidate:
    """Takes the simplest of those that are as fast as the fastest of the last stage.

    The default is simplest, then what leaves threads and streams to the runtime.
    """
    finalists = [each for each in ranked if len(each.ratios) == len(default.ratios)]
    best = max(each.ratio for each in finalists)
    tied = [each for each in finalists if each.ratio >= best * (1 - TIE)]

    def order(each: Candidate) -> tuple[bool, int, int, float]:
        return (each is not default, each.settings.threads or 0, each.settings.streams or 0, -each.ratio)

    return min(tied, key=order)


def _knock_out(candidates: Sequence[Candidate], turn_s: float, progress: Progress) -> list[Candidate]:
    """Runs stages, each with the better half of the one before; the first candidate, the default, stays to the end.

    Returns:
        All, the best of the last stage first.
    """
    draw = random.Random(_SEED)
    for number, each in enumerate(candidates):
        progress(f"warm up batch {each.settings.batch}", number, len(candidates))
        each.process.ask("warm_up", turn_s, **each.task)
    alive, out = list(candidates), list[Candidate]()
    done, total = 0, _turns(len(candidates))
    while True:
        last = len(alive) <= FINALISTS + 1
        rounds = _LAST_ROUNDS if last else _ROUNDS
        for each in alive:
            each.ratios = []
        for _ in range(rounds):
            for each in draw.sample(alive, len(alive)):
                progress(f"measure batch {each.settings.batch}", done, total)
                each.rates.append(each.process.ask("turn", turn_s, least=_LEAST, **each.task)["images_per_s"])
                done += 1
            for each in alive:
                each.ratios.append(each.rates[-1] / candidates[0].rates[-1])
        alive.sort(key=lambda each: -each.ratio)
        if last:
            return alive + out
        stay = alive[: max(FINALISTS, len(alive) // 2)]
        stay += [candidates[0]] if candidates[0] not in stay else []
        out = [each for each in alive if each not in stay] + out
        alive = stay


def _turns(count: int) -> int:
    """Counts the turns of all stages, one more or less."""
    turns = 0
    while count > FINALISTS + 1:
        turns += count * _ROUNDS
        count = max(FINALISTS, count // 2) + 1
    return turns + count * _LAST_ROUNDS


def _record(bundle: Bundle, variant: ModelVariant, best: Candidate, ready: dict[str, Any]) -> Tuned:
    artefact = bundle.find(*variant.artefact)
    if artefact is None:  # the process has read it already
        raise BackendError(f"{variant} has no file in {bundle.path}")
    assert best.settings.batch is not None
    return Tuned(
        backend=variant.backend,
        precision=variant.precision,
        device=ready["device"],
        runtime=ready["runtime"],
        machine=ready["gpu"] or machine_info()["cpu_class"],
        cores=usable_cores(),
        artefact_sha256=artefact.sha256,
        threads=best.settings.threads or 0,
        streams=best.settings.streams or 0,
        batch=best.settings.batch,
        images_per_s=round(best.images_per_s, 1),
        gain=round(best.ratio, 4),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )
