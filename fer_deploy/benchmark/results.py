"""Rows of ``fer-deploy bench``: one per form, mode and batch size, and what is derived from all of them.

The JSON of ``fer-deploy bench``: written with a row per line, read again with every figure checked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fer_deploy.benchmark.stopwatch import LATENCY, MODES, MOST_SAMPLES, Task
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.bundle.records import Record
from fer_deploy.bundle.store import recorded
from fer_deploy.errors import UsageError
from fer_deploy.system.machine import machine_info
from fer_deploy.verification.variants import AUTO, KERAS, NULL, ModelVariant
from fer_deploy.verification.verifier import OK, SKIPPED, VariantRow

ONNX_FP32: Final = ModelVariant("onnx", "fp32")
_SPLITS: Final = ("PublicTest", "PrivateTest", "Test")
"""Which split's accuracy is told: the last one that there is a record of."""
SCHEMA: Final = 1
MAX_BYTES: Final = 1 << 28
Result = dict[str, Any]
BATCHES: Final = (1, 8, 64, 256)
DURATION_S: Final = 5.0
ROUNDS: Final = 5
"""At least; a turn takes no longer than a second."""
Progress = Callable[[str, int, int], None]
"""Called with what is under way, turns done and their total."""


@dataclass(frozen=True)
class SpeedRow(VariantRow):
    """The speed of one form at one batch size in one mode; figures are None where it did not run.

    Args:
        backend: ``keras``, ``onnx``, ``openvino``, ``trt`` or ``null``.
        precision: Of the artefact, or ``bf16``.
        effective: What the runtime computed in.
        simulated: Always False: what only stands in for a runtime has no speed.
        device: ``cpu``, ``cuda``, ...
        runtime: Name and version.
        machine: CPU class or GPU.
        graph: Whether CUDA graphs were used; None where there are none.
        mode: ``latency`` (one call after the other) or ``throughput`` (a stream).
        batch: Pictures per batch.
        streams: Batches that the runtime computed at once; None where the backend does not know.
        threads: Of the runtime; None as above.
        n: Pictures that were timed.
        accuracy: As it was recorded by ``verify``, a fraction; None where nothing is recorded.
        accuracy_split: Of which split.
        accuracy_machine: On which CPU class or GPU.
        images_per_s: Pictures by the time that they took.
        latency_p50_s: Of a batch, in the mode ``latency`` only, from ``samples_s``; so are the next two.
        latency_p90_s: As above.
        latency_p99_s: As above.
        device_p50_s: Of the GPU alone, copies not counted; the other latencies are from host memory to host memory.
        samples: How many batches were timed.
        samples_s: A fair choice of at most 2,000 of them: seconds per batch; in a stream, between its answers.
        warm_up_s: How long it was warmed up.
        settled: Whether it had settled by then.
        import_s: Importing the runtime.
        compile_s: Opening the model with an empty cache.
        load_s: The same with what the first time left in the cache.
        cold_start_s: From process start to the first answer, with that cache; the median of up to three starts.
        first_start_s: The same with an empty cache.
        peak_memory_mib: The most that the form's process had resident, all batch sizes and modes warmed up.
        artefact_sha256: Of the model file that ran.
        status: ``ok``, ``failed`` or ``skipped``.
        reason: Why it is not ok.
    """

    graph: bool | None = None
    mode: str | None = None
    batch: int | None = None
    streams: int | None = None
    threads: int | None = None
    n: int | None = None
    accuracy: float | None = None
    accuracy_split: str | None = None
    accuracy_machine: str | None = None
    images_per_s: float | None = None
    latency_p50_s: float | None = None
    latency_p90_s: float | None = None
    latency_p99_s: float | None = None
    device_p50_s: float | None = None
    samples: int | None = None
    samples_s: Sequence[float] | None = None
    warm_up_s: float | None = None
    settled: bool | None = None
    import_s: float | None = None
    compile_s: float | None = None
    load_s: float | None = None
    cold_start_s: float | None = None
    first_start_s: float | None = None
    peak_memory_mib: float | None = None
    artefact_sha256: str | None = None
    status: str = SKIPPED
    reason: str | None = None


def known_accuracy(bundle: Bundle, variant: ModelVariant, device: str, machine: str) -> Record | None:
    """Finds the record of a form's accuracy: on this kind of machine, else on another one; None where there is none.

    Args:
        bundle: Whose records.
        variant: Which variant.
        device: What it ran on.
        machine: CPU class or GPU.
    """
    fitting = [
        r for r in recorded(bundle) if (r.backend, r.precision, r.device) == (*variant, device) and not r.simulated
    ]
    fitting = [record for record in fitting if record.split in _SPLITS]
    return max(fitting, key=lambda r: (r.machine == machine, _SPLITS.index(r.split)), default=None)


def best_speed(rows: Iterable[SpeedRow], variant: ModelVariant, mode: str) -> float | None:
    """A form's images/s at its best batch size in a mode; None where it did not run."""
    speeds = [row.images_per_s for row in rows if (row.variant, row.mode) == (variant, mode) and row.images_per_s]
    return max(speeds, default=None)


def speed_ups(rows: Sequence[SpeedRow], row: SpeedRow) -> tuple[float | None, float | None]:
    """How many times as fast a row is as Keras and as ONNX Runtime fp32, each at its best batch in the same mode."""
    if row.images_per_s is None or row.mode is None or row.variant == NULL:
        return None, None
    others = (best_speed(rows, variant, row.mode) for variant in (KERAS, ONNX_FP32))
    keras, onnx = (row.images_per_s / other if other else None for other in others)
    return keras, onnx


def fastest(rows: Iterable[SpeedRow]) -> SpeedRow | None:
    """The row with the most images/s; ``null`` does not count."""
    ran = [row for row in rows if row.status == OK and row.variant != NULL]
    return max(ran, key=lambda row: row.images_per_s or 0, default=None)


def quickest(rows: Iterable[SpeedRow]) -> SpeedRow | None:
    """The row with the lowest median latency; ``null`` does not count."""
    ran = [row for row in rows if row.latency_p50_s is not None and row.variant != NULL]
    return min(ran, key=lambda row: row.latency_p50_s or 0, default=None)


def as_result(bundle: Bundle, rows: Sequence[SpeedRow], settings: BenchSettings) -> Result:
    """Makes the object that ``--json`` prints."""
    return {
        "schema": SCHEMA,
        "machine": machine_info(),
        "bundle": {"path": bundle.address, "name": bundle.name, "source_sha256": bundle.source_sha256},
        "settings": {
            "batches": sorted(set(settings.batches)),
            "modes": list(settings.modes),
            "duration_s": settings.duration_s,
            "rounds": settings.rounds,
            "device": settings.device,
            "threads": settings.threads,
            "pictures": "probe",
            "most_samples": MOST_SAMPLES,
        },
        "rows": [_with_speed_ups(rows, row) for row in rows],
    }


def _with_speed_ups(rows: Sequence[SpeedRow], row: SpeedRow) -> dict[str, Any]:
    keras, onnx = speed_ups(rows, row)
    return {**row.as_dict(), "speed_up_over_keras": keras, "speed_up_over_onnx_fp32": onnx}


def dump(result: Mapping[str, Any]) -> str:
    """Gives JSON text with one line per key and one per row, so that raw samples don't fill the screen."""
    lines = [f" {json.dumps(key)}: {_value(key, value)}" for key, value in result.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


def _value(key: str, value: Any) -> str:
    if key != "rows":
        return json.dumps(value, allow_nan=False)
    return "[\n" + ",\n".join(f"  {json.dumps(row, allow_nan=False)}" for row in value) + "\n ]"


def load_result(path: Path) -> Result:
    """Reads what ``fer-deploy bench --output`` or ``--json`` wrote.

    Raises:
        UsageError: It cannot be read, or is not of this kind.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
        result = json.loads(path.read_text(encoding="utf-8"))
        _check(result)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"{path} is no result of fer-deploy bench --output: {error}") from error
    return {**result, "path": str(path)}


def _check(result: Any) -> None:
    if not isinstance(result, dict) or result.get("schema") != SCHEMA:
        raise ValueError(f"expected a JSON object with schema {SCHEMA}")
    for name in ("machine", "bundle", "settings"):
        if not isinstance(result.get(name, {}), dict):
            raise ValueError(f"{name} is no object")
    rows = result.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("rows is no list of objects")
    for row in rows:
        if row.get("status") == OK:
            _check_row(row)


def _check_row(row: Mapping[str, Any]) -> None:
    for name in ("backend", "precision", "device", "machine", "mode"):
        if not isinstance(row.get(name), str) or not row[name].isprintable():
            raise ValueError(f"{name} of a row is {row.get(name)!r:.40}, expected a word")
    if row["mode"] not in MODES or type(row.get("batch")) is not int:
        raise ValueError(f"mode and batch of a row are {row['mode']!r:.40} and {row.get('batch')!r:.40}")
    if row.get("graph") not in (None, True, False):
        raise ValueError(f"graph of a row is {row['graph']!r:.40}, expected true, false or null")
    for name in ("images_per_s", *(("latency_p50_s",) if row["mode"] == LATENCY else ())):
        value = row.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise ValueError(f"{name} of a row is {value!r:.40}, expected a number above 0")


@dataclass(frozen=True)
class BenchSettings:
    """How it is measured.

    Args:
        batches: Pictures per batch, a row each.
        modes: ``latency``, ``throughput`` or both, a row each.
        duration_s: How long each row is measured; it is warmed up for as long at most.
        device: ``auto``, ``cpu``, ``cuda``, ...
        threads: Threads of the runtimes; None leaves it to them.
        progress: Told how far it is.
    """

    batches: tuple[int, ...] = BATCHES
    modes: tuple[str, ...] = MODES
    duration_s: float = DURATION_S
    device: str = AUTO
    threads: int | None = None
    progress: Progress = lambda text, done, total: None

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What is measured of each form, small batches first."""
        return tuple(Task(mode, batch) for mode in self.modes for batch in sorted(set(self.batches)))

    @property
    def rounds(self) -> int:
        """How many turns each row has."""
        return max(ROUNDS, round(self.duration_s))
