"""Compiled OpenVINO models in the user's cache folder: starting takes a fraction of the time from the second run on.

OpenVINO's own cache (``CACHE_DIR``) is not used: it runs a damaged blob without noticing (seen: wrong probabilities),
and reads ONNX before it looks. Here each blob carries its hash, and is written whole or not at all, so that processes
that start together cannot disturb each other.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Final

KEEP: Final = 16
"""Blobs kept; the ones unused for longest go first."""
_DIGEST_BYTES: Final = hashlib.sha256().digest_size


def compile_cached(core: Any, model: bytes, config: Mapping[str, str], folder: Path | None = None) -> Any:
    """Compiles an ONNX model for the CPU, or takes it from the cache.

    Args:
        core: The ``openvino.Core``.
        model: The ONNX file's content.
        config: OpenVINO's properties for the compilation.
        folder: The cache; ``None`` for the user's.

    Returns:
        An ``openvino.CompiledModel``. A cache that cannot be read or written changes nothing but the time.
    """
    path = (folder or cache_folder()) / f"{_key(core, model, config)}.blob"
    blob = _load(path)
    if blob is not None:
        with suppress(RuntimeError):  # made by another build of OpenVINO under the same version: made again
            return core.import_model(BytesIO(blob), "CPU", dict(config))
    compiled = core.compile_model(core.read_model(model), "CPU", dict(config))
    with suppress(OSError):
        _store(path, compiled.export_model().getvalue())
    return compiled


def cache_folder() -> Path:
    """The user's cache of compiled models: ``$XDG_CACHE_HOME/fer-deploy/openvino`` or ``~/.cache/...``."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111  (never raises)
    return Path(base) / "fer-deploy" / "openvino"


def _key(core: Any, model: bytes, config: Mapping[str, str]) -> str:
    """Hashes all that a compiled model depends on; the CPU by what it can, since its name can be as good as none."""
    import openvino

    cpu = [str(core.get_property("CPU", key)) for key in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    facts = [openvino.__version__, *cpu, str(os.cpu_count()), str(sorted(config.items())), str(len(model))]
    return hashlib.sha256("\n".join(facts).encode() + model).hexdigest()


def _load(path: Path) -> bytes | None:
    try:
        if path.stat().st_uid != os.geteuid():  # only what this user made is run
            return None
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    digest, blob = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return blob if hashlib.sha256(blob).digest() == digest else None


def _store(path: Path, blob: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
        try:
            file.write(hashlib.sha256(blob).digest() + blob)
            file.close()
            Path(file.name).replace(path)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise
    blobs = sorted(path.parent.glob("*.blob"), key=lambda blob: blob.stat().st_mtime)
    for old in blobs[:-KEEP]:
        old.unlink(missing_ok=True)
