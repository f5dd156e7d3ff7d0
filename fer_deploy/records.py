"""Records of what was measured: which form of a model, on which runtime and machine, with which result.

``verify --record`` keeps them in the bundle if it is the user's own, else (the shipped one, or one that cannot be
written) in the user's state folder; so does ``bench --tune`` with those of ``tuning``. They hold for the CPU class or
GPU that they name, and for the file whose hash they carry.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fer_deploy.errors import OutputError
from fer_deploy.files import written_whole

if TYPE_CHECKING:
    from fer_deploy.bundle import Bundle

MAX_BYTES: Final = 1 << 20
STATUSES: Final = ("ok", "failed")
_HUGE: Final = 1 << 53  # up to here whole numbers are floats without loss
_LONGEST: Final = 1000
_Kind = TypeVar("_Kind")


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


def recorded(bundle: Bundle) -> tuple[Record, ...]:
    """Returns all records that hold for a bundle's files as they are, the user's own before those in the bundle.

    A state file that cannot be read or is damaged counts as none: it can be made again.
    """
    known = {artefact.sha256 for artefact in bundle.artefacts}
    each = (bundle.verification, from_state(state_file(bundle), parse_record))
    # chosen before they are joined: the state file outlives files, and what is stale must not hide what holds
    return merge(*([record for record in records if record.artefact_sha256 in known] for records in each))


def keep(bundle: Bundle, records: Iterable[Record]) -> Path:
    """Keeps records, each in the place of an older one of the same key; returns the file that they went to.

    Raises:
        OutputError: Neither the bundle nor the state folder can be written.
    """
    new = tuple(records)
    if is_the_users(bundle):
        dataclasses.replace(bundle, verification=merge(bundle.verification, new)).save()
        return bundle.path
    path = state_file(bundle)
    to_state(path, merge(from_state(path, parse_record), new))
    return path


def state_file(bundle: Bundle, kind: str = "verification") -> Path:
    """Where records of a bundle go that is not the user's: below ``$XDG_STATE_HOME`` or ``~/.local/state``.

    Args:
        bundle: Whose records.
        kind: Which: ``verification`` or ``tuning``.
    """
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111  (never raises)
    return Path(base) / "fer-deploy" / kind / f"{bundle.source_sha256}.json"


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


def is_the_users(bundle: Bundle) -> bool:
    """Tells whether a bundle may be written to: not the shipped one, nor one that the user cannot write."""
    from fer_deploy.bundle import ASSETS

    inside = bundle.path.resolve().is_relative_to(ASSETS.resolve())
    return not inside and os.access(bundle.path, os.W_OK)


def from_state(path: Path, parse: Callable[[Any], _Kind]) -> tuple[_Kind, ...]:
    """Reads a state file; one that is missing or damaged holds nothing."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return ()
        return tuple(parse(entry) for entry in json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return ()


def to_state(path: Path, records: Iterable[Any]) -> None:
    """Writes a state file, whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent} cannot be made: {error.strerror}") from error
    with written_whole(path) as partial:
        text = json.dumps([asdict(record) for record in records], indent=1, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")
