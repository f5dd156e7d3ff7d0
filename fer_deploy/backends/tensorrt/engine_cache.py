"""Where an engine comes from: the bundle, the user's cache, or a build on the spot.

An engine is a program, and TensorRT runs what it gets; so only those are loaded whose hash stands in the bundle's
manifest or that lie in this user's own cache, and that were made of this very ONNX file by this very TensorRT.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from fer_deploy.backends.tensorrt.builder import BuildOptions, Report, build_engine
from fer_deploy.backends.tensorrt.cuda import CudaDevice
from fer_deploy.backends.tensorrt.flavour import INSTALL, Flavour
from fer_deploy.bundle.manifest import Artefact, Bundle
from fer_deploy.errors import BackendError, UnavailableError
from fer_deploy.system.files import cache_folder, load_blob, store_blob

CACHE: Final = "tensorrt"


def engine_facts(flavour: Flavour, model: bytes, options: BuildOptions) -> dict[str, Any]:
    """What an engine in a bundle must say of itself (``made_with``) to be run.

    Args:
        flavour: The TensorRT that builds or runs it.
        model: The ONNX file's content.
        options: What it is built for.
    """
    return {
        "runtime": flavour.name,
        "version": flavour.version,
        "onnx_sha256": hashlib.sha256(model).hexdigest(),
        "profile": options.as_json(),
    }


def offered_engines(
    bundle: Bundle, precision: str, flavour: Flavour, gpu: CudaDevice, options: BuildOptions, report: Report
) -> Iterator[bytes]:
    """Yields engines for this GPU until one is taken: the bundle's if it fits, then the cache's, then a new one.

    Args:
        bundle: The bundle.
        precision: ``fp32``, ``fp16`` or ``int8-trt``.
        flavour: The TensorRT that runs it.
        gpu: The GPU that runs it.
        options: What it is built for if it has to be; one in the bundle may have another profile.
        report: Told why an engine of the bundle is not offered, and that one is built.

    Raises:
        BundleError: The bundle has no ONNX file in that precision, or a file does not match its hash.
        UnavailableError: TensorRT for RTX has nothing for this GPU.
        BackendError: TensorRT cannot build the engine.
    """
    model = bundle.read("onnx", precision)
    artefact = bundle.find("engine", precision, gpu.target)
    if artefact is not None:
        stale = why_stale(artefact, engine_facts(flavour, model, options))
        if not stale:
            yield bundle.read("engine", precision, gpu.target)
        else:
            report(f"The engine {artefact.file} is not used, and made anew from the ONNX file: {stale}")
    path = cache_folder(CACHE) / f"{cache_key(model, precision, flavour, gpu, options)}.engine"
    cached = load_blob(path)
    if cached is not None:
        yield cached
    timings = path.with_name(f"{_digest(flavour.name, flavour.version, gpu.name)}.timings")
    try:
        built = build_engine(flavour, model, precision, options=options, timings=timings, report=report)
    except BackendError as error:
        if flavour.is_rtx and gpu.target not in flavour.targets:
            raise UnavailableError(
                f"{flavour.name} {flavour.version} is for {', '.join(flavour.targets)}, and the {gpu.name} is "
                f"{gpu.target}: pip install '{INSTALL[0]}'. It says: {error}"
            ) from error
        raise
    with suppress(OSError):
        store_blob(path, built.content)
    yield built.content


def why_stale(artefact: Artefact, facts: dict[str, Any]) -> str:
    """Says why an engine of a bundle must not be run with these facts; empty if it may.

    The profile is not compared: every batch size is within it, or is split.
    """
    made = artefact.made_with
    theirs, ours = (f"{facts.get('runtime')} {facts.get('version')}" for facts in (made, facts))
    if theirs != ours:
        return f"it was built by {theirs:.80}, and this is {ours}"
    if made.get("onnx_sha256") != facts["onnx_sha256"]:
        return "it was built from another ONNX file"
    return ""


def cache_key(model: bytes, precision: str, flavour: Flavour, gpu: CudaDevice, options: BuildOptions) -> str:
    """Hashes all that an engine depends on."""
    profile = json.dumps(options.as_json(), sort_keys=True)
    onnx = hashlib.sha256(model).hexdigest()
    return _digest(onnx, precision, flavour.name, flavour.version, gpu.name, gpu.target, gpu.driver, profile)


def _digest(*facts: str) -> str:
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()
