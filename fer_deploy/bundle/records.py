"""Records of what was measured: a model variant, its runtime and machine, and the result or the fastest settings.

``verify --record`` makes the former, ``tune`` the latter. They hold for the CPU class or GPU that they name (those of
tuning for as many usable cores, too), and for the file whose hash they carry.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

STATUSES: Final = ("ok", "failed")
_HUGE: Final = 1 << 53  # up to here whole numbers are floats without loss
_LONGEST: Final = 1000
_Kind = TypeVar("_Kind")
MOST: Final = 1 << 16


@dataclass(frozen=True)
class Record:
    """One form of a model on one runtime and machine, measured on one split.

    Args:
        backend: ``keras``, ``onnx``, ``openvino`` or ``trt``.
        precision: Of the artefact (``fp32``, ...), or ``bf16``.
        effective: What the runtime computed in.
        simulated: Whether another runtime stood in for the one that the file is for.
        device: ``cpu``, ``cuda``, ...
        runtime: The runtime's name and version.
        machine: The CPU class (``machine.cpu_class``), or the GPU's name.
        artefact_sha256: Digest of the model file that ran.
        split: ``PrivateTest``, ``PublicTest`` or ``Test``.
        n: Pictures.
        accuracy: Top-1, a fraction.
        drift_points: Accuracy less that of Keras, in percentage points.
        agreement: Share of pictures with Keras's top-1, a fraction.
        images_per_s: Throughput while verifying.
        status: ``ok`` or ``failed`` (the gate).
        reason: Why it failed; empty when it did not.
        date: Day of the measurement, ``YYYY-MM-DD``.
    """

    backend: str
    precision: str
    effective: str
    simulated: bool
    device: str
    runtime: str
    machine: str
    artefact_sha256: str
    split: str
    n: int
    accuracy: float
    drift_points: float
    agreement: float
    images_per_s: float
    status: str
    reason: str
    date: str

    @property
    def key(self) -> tuple[str, ...]:
        """What a newer record takes the place of an older one by."""
        return (self.backend, self.precision, str(self.simulated), self.device, self.machine, self.split)


def parse_record(entry: Any) -> Record:
    """Makes a record of its JSON.

    Raises:
        ValueError: It has not exactly the fields of a record, or one has a value that cannot be.
    """
    record = parse_fields(Record, entry)
    fractions = (record.accuracy, record.agreement)
    finite = all(math.isfinite(value) for value in (*fractions, record.drift_points, record.images_per_s))
    if not finite or not all(0 <= value <= 1 for value in fractions) or record.n < 1 or record.status not in STATUSES:
        raise ValueError(f"a record of {record.backend!r:.40} {record.precision!r:.40} has values that cannot be")
    return record


def parse_fields(kind: type[_Kind], entry: Any) -> _Kind:
    """Makes a record of its JSON, with every field of the right type; ``artefact_sha256`` must be among them.

    Raises:
        ValueError: It has not exactly the fields of that dataclass, or one is of another type.
    """
    if not isinstance(entry, dict):
        raise ValueError("a record is not a JSON object")
    fields = {field.name: field.type for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if set(entry) != set(fields):
        wrong = ", ".join(map(repr, sorted(set(entry) ^ set(fields))))[:200]
        raise ValueError(f"a record has the wrong fields: {wrong}")
    for name, type_name in fields.items():
        value = entry[name]
        if type_name == "float" and type(value) is int and abs(value) < _HUGE:
            entry = {**entry, name: float(value)}
        elif type(value).__name__ != type_name:
            raise ValueError(f"{name} of a record is {value!r:.40}, expected a {type_name}")
        elif type_name == "str" and (not value.isprintable() or len(value) > _LONGEST):
            raise ValueError(f"{name} of a record is unprintable or too long: {value!r:.40}")
    if not re.fullmatch("[0-9a-f]{64}", entry.get("artefact_sha256", "")):
        raise ValueError(f"artefact_sha256 of a record is no SHA-256: {entry.get('artefact_sha256')!r:.80}")
    return kind(**entry)


def merge(old: Iterable[Record], new: Iterable[Record]) -> tuple[Record, ...]:
    """Joins records, each new one in the place of an older one of the same key."""
    return tuple({record.key: record for record in (*old, *new)}.values())


@dataclass(frozen=True)
class Tuned:
    """The fastest settings of one form on one machine, for throughput.

    Args:
        backend: ``keras``, ``onnx``, ``openvino`` or ``trt``.
        precision: Of the artefact (``fp32``, ...), or ``bf16``.
        device: ``cpu``, ``cuda``, ...
        runtime: The runtime's name and version.
        machine: The CPU class (``machine.cpu_class``), or the GPU's name.
        cores: Usable physical cores.
        artefact_sha256: Digest of the model file that ran.
        threads: Of the runtime; 0 where it is best left to choose.
        streams: Batches that the runtime computes at once; 0 where it is best left to choose.
        batch: Pictures per batch.
        images_per_s: Throughput with these settings.
        gain: How many times as fast that is as with the settings that hold without a record, interleaved.
        date: Day of the measurement, ``YYYY-MM-DD``.
    """

    backend: str
    precision: str
    device: str
    runtime: str
    machine: str
    cores: int
    artefact_sha256: str
    threads: int
    streams: int
    batch: int
    images_per_s: float
    gain: float
    date: str

    @property
    def key(self) -> tuple[object, ...]:
        """What a newer record takes the place of an older one by."""
        return (self.backend, self.precision, self.device, self.machine, self.cores)


def parse_tuned(entry: Any) -> Tuned:
    """Makes a record of its JSON.

    Raises:
        ValueError: It has not exactly the fields of such a record, or one has a value that cannot be.
    """
    tuned = parse_fields(Tuned, entry)
    counts_fit = 0 < tuned.batch <= MOST and all(0 <= n <= MOST for n in (tuned.threads, tuned.streams))
    speeds_fit = all(math.isfinite(value) and value > 0 for value in (tuned.images_per_s, tuned.gain))
    if not counts_fit or not speeds_fit or tuned.cores < 1:
        raise ValueError(f"a tuning record of {tuned.backend!r:.40} {tuned.precision!r:.40} has values that cannot be")
    return tuned
