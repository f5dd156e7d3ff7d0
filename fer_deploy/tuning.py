"""What ``bench --tune`` found: with which streams, threads and batch size a form of a model is fastest here.

It is kept where ``records`` are, and holds for the file whose hash it carries on CPUs of the same class with as many
usable cores, or on GPUs of the same name.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fer_deploy.records import from_state, is_the_users, parse_fields, state_file, to_state

if TYPE_CHECKING:
    from fer_deploy.bundle import Bundle

KIND: Final = "tuning"
MOST: Final = 1 << 16


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


def tuned_for(bundle: Bundle) -> tuple[Tuned, ...]:
    """Returns all records that hold for a bundle's files as they are; a damaged state file counts as none."""
    known = {artefact.sha256 for artefact in bundle.artefacts}
    each = (bundle.tuning, from_state(state_file(bundle, KIND), parse_tuned))
    return _merge(*([tuned for tuned in records if tuned.artefact_sha256 in known] for records in each))


def keep_tuned(bundle: Bundle, new: Iterable[Tuned]) -> Path:
    """Keeps records, each in the place of an older one of the same key; returns where they went.

    Raises:
        OutputError: Neither the bundle nor the state folder can be written.
    """
    if is_the_users(bundle):
        dataclasses.replace(bundle, tuning=_merge(bundle.tuning, new)).save()
        return bundle.path
    path = state_file(bundle, KIND)
    to_state(path, _merge(from_state(path, parse_tuned), new))
    return path


def _merge(old: Iterable[Tuned], new: Iterable[Tuned]) -> tuple[Tuned, ...]:
    return tuple({tuned.key: tuned for tuned in (*old, *new)}.values())
