"""Rows of ``fer-deploy bench``: one per form, mode and batch size, and what is derived from all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fer_deploy.bundle import Bundle
from fer_deploy.evaluation.forms import KERAS, NULL, Form
from fer_deploy.evaluation.rows import OK, SKIPPED, FormRow
from fer_deploy.records import Record, recorded

ONNX_FP32: Final = Form("onnx", "fp32")
_SPLITS: Final = ("PublicTest", "PrivateTest", "Test")
"""Which split's accuracy is told: the last one that there is a record of."""


@dataclass(frozen=True)
class SpeedRow(FormRow):
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


def known_accuracy(bundle: Bundle, form: Form, device: str, machine: str) -> Record | None:
    """Finds the record of a form's accuracy: on this kind of machine, else on another one; None where there is none.

    Args:
        bundle: Whose records.
        form: Which form.
        device: What it ran on.
        machine: CPU class or GPU.
    """
    fitting = [r for r in recorded(bundle) if (r.backend, r.precision, r.device) == (*form, device) and not r.simulated]
    fitting = [record for record in fitting if record.split in _SPLITS]
    return max(fitting, key=lambda r: (r.machine == machine, _SPLITS.index(r.split)), default=None)


def best_speed(rows: Iterable[SpeedRow], form: Form, mode: str) -> float | None:
    """A form's images/s at its best batch size in a mode; None where it did not run."""
    speeds = [row.images_per_s for row in rows if (row.form, row.mode) == (form, mode) and row.images_per_s]
    return max(speeds, default=None)


def speed_ups(rows: Sequence[SpeedRow], row: SpeedRow) -> tuple[float | None, float | None]:
    """How many times as fast a row is as Keras and as ONNX Runtime fp32, each at its best batch in the same mode."""
    if row.images_per_s is None or row.mode is None or row.form == NULL:
        return None, None
    others = (best_speed(rows, form, row.mode) for form in (KERAS, ONNX_FP32))
    keras, onnx = (row.images_per_s / other if other else None for other in others)
    return keras, onnx


def fastest(rows: Iterable[SpeedRow]) -> SpeedRow | None:
    """The row with the most images/s; ``null`` does not count."""
    ran = [row for row in rows if row.status == OK and row.form != NULL]
    return max(ran, key=lambda row: row.images_per_s or 0, default=None)


def quickest(rows: Iterable[SpeedRow]) -> SpeedRow | None:
    """The row with the lowest median latency; ``null`` does not count."""
    ran = [row for row in rows if row.latency_p50_s is not None and row.form != NULL]
    return min(ran, key=lambda row: row.latency_p50_s or 0, default=None)
