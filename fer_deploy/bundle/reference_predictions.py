"""What Keras answered, kept in the bundle: the ground of ``verify`` where TensorFlow is not installed.

The file is a plain .npz of float32 arrays and fingerprints. It is read without numpy's loader, which would allocate
whatever a header asks for.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fer_deploy.bundle.manifest import Bundle
from fer_deploy.data.fer2013 import PARTITIONS
from fer_deploy.data.probe import IMAGES
from fer_deploy.errors import BundleError, one_line
from fer_deploy.labels import NUM_CLASSES
from fer_deploy.system.files import written_whole

OUTPUTS_FILE: Final = "keras_outputs.npz"
FORMAT: Final = "outputs"
MAX_BYTES: Final = 16 << 20
MAX_IMAGES: Final = 100_000
_ROUNDING: Final = 1e-3
_DAMAGE: Final = (
    *(ValueError, TypeError, SyntaxError, KeyError, EOFError, OSError, RuntimeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)
"""All that zipfile and numpy raise on damaged, encrypted or foreign content."""

Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class RecordedPartition:
    """Keras's answers to one partition: ``RecordedPartition(fingerprint(images), probabilities)``.

    Args:
        fingerprint: Of the pictures, as ``fingerprint`` gives it.
        probabilities: float32, shape (N, 7), in the reader's order.
    """

    fingerprint: str
    probabilities: Probabilities


@dataclass(frozen=True)
class KerasOutputs:
    """All that is recorded of Keras's answers.

    Args:
        probe: Answers to ``probe_images()``, float32, shape (111, 7).
        partitions: By the partition's name; possibly none.
    """

    probe: Probabilities
    partitions: Mapping[str, RecordedPartition]


def fingerprint(images: NDArray[np.uint8]) -> str:
    """SHA-256 in hexadecimal of pictures' bytes in their order; uint8, shape (N, 48, 48) or (N, 48, 48, 1)."""
    return hashlib.sha256(images.tobytes()).hexdigest()


def write_outputs(
    folder: Path, *, probe: Probabilities, partitions: Mapping[str, RecordedPartition] | None = None
) -> str:
    """Writes ``keras_outputs.npz`` into a bundle's folder; equal answers give equal bytes.

    Args:
        folder: The bundle's folder.
        probe: Keras's answers to ``probe_images()``, float32, shape (111, 7).
        partitions: Answers to FER-2013's partitions, by name (``PublicTest``, ...).

    Returns:
        The file's name, for ``bundle.describe_file(folder, name, "outputs", "fp32", ...)``.

    Raises:
        OutputError: It cannot be written.
        ValueError: An array is not of float32 probabilities, or a name is no partition's.
    """
    arrays: dict[str, NDArray[Any]] = {"probe": _checked("probe", probe, IMAGES)}
    for name in sorted(partitions or {}):
        if name not in PARTITIONS:
            raise ValueError(f"there is no partition {name!r:.40}")
        recorded = (partitions or {})[name]
        arrays[name] = _checked(name, recorded.probabilities, None)
        arrays[f"{name}_fingerprint"] = np.array(recorded.fingerprint)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    with written_whole(folder / OUTPUTS_FILE) as partial:
        partial.write_bytes(buffer.getvalue())
    return OUTPUTS_FILE


def read_outputs(bundle: Bundle) -> KerasOutputs | None:
    """Reads a bundle's recorded answers; None where it has none.

    Raises:
        BundleError: The file is missing, not the one in the manifest, or damaged.
    """
    artefact = bundle.find(FORMAT)
    if artefact is None:
        return None
    path = bundle.path / artefact.file
    if artefact.size > MAX_BYTES:
        raise BundleError(f"{path} has {artefact.size:,} bytes, at most {MAX_BYTES:,} are read: not a file of ours")
    content = bundle.read(FORMAT)
    try:
        return _parse(content)
    except _DAMAGE as error:
        reason = one_line(error, 200)
        raise BundleError(f"{path} is damaged: {reason}. Make the bundle again with: fer-deploy export") from error


def _parse(content: bytes) -> KerasOutputs:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
        present = [name for name in PARTITIONS if name in names]
        expected = {"probe", *present, *(f"{name}_fingerprint" for name in present)}
        if set(names) != expected or len(names) != len(expected):
            raise ValueError(f"it holds {', '.join(sorted(names))}; expected probe and partitions with fingerprints")
        arrays = {name: _entry(archive, name) for name in names}
    partitions: dict[str, RecordedPartition] = {}
    for name in present:
        digest = str(arrays[f"{name}_fingerprint"])
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise ValueError(f"{name}_fingerprint is no SHA-256: {digest!r:.80}")
        partitions[name] = RecordedPartition(digest, _checked(name, arrays[name], None))
    return KerasOutputs(_checked("probe", arrays["probe"], IMAGES), partitions)


def _entry(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Reads one array; only the bytes that its checked header calls for are ever held."""
    with archive.open(f"{name}.npy") as stream:
        if npy.read_magic(stream) != (1, 0):
            raise ValueError(f"{name} is not of the .npy format 1.0")
        shape, fortran, dtype = npy.read_array_header_1_0(stream)
        expected, most = ("<U64", 1) if name.endswith("_fingerprint") else ("<f4", MAX_IMAGES * NUM_CLASSES)
        count = math.prod(shape)
        if dtype != np.dtype(expected) or fortran or not 0 < count <= most:
            raise ValueError(f"{name} is {dtype} of shape {shape}: not an array of ours")
        data = stream.read(count * dtype.itemsize)
        if len(data) != count * dtype.itemsize or stream.read(1):  # reading to the end checks the CRC too
            raise ValueError(f"{name} is truncated or has more than its header says")
    return np.frombuffer(data, dtype).reshape(shape)


def _checked(name: str, values: NDArray[Any], n: int | None) -> Probabilities:
    if values.dtype != np.float32 or values.ndim != 2 or values.shape != (n or len(values), NUM_CLASSES):
        raise ValueError(f"{name} is {values.dtype} of shape {values.shape}, expected float32 ({n or 'N'}, 7)")
    sums_to_one = np.abs(values.sum(axis=1) - 1) <= _ROUNDING  # False for NaN
    if not sums_to_one.all() or not (values >= 0).all():
        raise ValueError(f"{name} does not hold probabilities: rows must sum to 1")
    return values
