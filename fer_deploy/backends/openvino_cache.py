"""Compiled OpenVINO models in the user's cache folder: starting takes a fraction of the time from the second run on.

OpenVINO's own cache (``CACHE_DIR``) is not used: it runs a damaged blob without noticing (seen: wrong probabilities),
and reads ONNX before it looks. The blobs lie in our own cache (``blob_cache``), where each carries its hash.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from fer_deploy.backends.blob_cache import cache_folder, load_blob, store_blob
from fer_deploy.backends.openvino_import import import_openvino


def compile_cached(
    core: Any,
    model: bytes,
    config: Mapping[str, str],
    folder: Path | None = None,
    shape: tuple[int, ...] | None = None,
) -> Any:
    """Compiles an ONNX model for the CPU, or takes it from the cache.

    Args:
        core: The ``openvino.Core``.
        model: The ONNX file's content.
        config: OpenVINO's properties for the compilation.
        folder: The cache; ``None`` for the user's.
        shape: What its one input shall take, -1 where any size will do; ``None`` for what the file says.

    Returns:
        An ``openvino.CompiledModel``. A cache that cannot be read or written changes nothing but the time.
    """
    types = import_openvino().Type
    types(types.f32.to_dtype())  # makes tables, at whose first use two threads would wait for each other (2026.4: ever)
    path = (folder or cache_folder("openvino")) / f"{_key(core, model, config, shape)}.blob"
    blob = load_blob(path)
    if blob is not None:
        with suppress(RuntimeError):  # made by another build of OpenVINO under the same version: made again
            return core.import_model(BytesIO(blob), "CPU", dict(config))
    read = core.read_model(model)
    if shape is not None:
        read.reshape(list(shape))
    compiled = core.compile_model(read, "CPU", dict(config))
    with suppress(OSError):
        store_blob(path, compiled.export_model().getvalue())
    return compiled


def _key(core: Any, model: bytes, config: Mapping[str, str], shape: tuple[int, ...] | None) -> str:
    """Hashes all that a compiled model depends on; the CPU by what it can, since its name can be as good as none."""
    cpu = [str(core.get_property("CPU", key)) for key in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    facts = [import_openvino().__version__, *cpu, str(os.cpu_count()), str(sorted(config.items())), str(len(model))]
    facts += [] if shape is None else [str(shape)]
    return hashlib.sha256("\n".join(facts).encode() + model).hexdigest()
