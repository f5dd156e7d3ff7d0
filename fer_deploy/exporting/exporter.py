"""One export from end to end: load, convert, compare, write."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from fer_deploy.backends.quiet import quiet
from fer_deploy.bundle import Bundle, describe_file
from fer_deploy.errors import UsageError
from fer_deploy.exporting import onnx
from fer_deploy.exporting.bundle_writer import KERAS_FILE, ONNX_FILE, check_output, new_folder
from fer_deploy.exporting.foreign import ForeignContract
from fer_deploy.exporting.hdf5_file import check_model_file
from fer_deploy.exporting.keras_file import LoadedModel, load_keras_file
from fer_deploy.exporting.parity import PictureSet, check_parity, parity_pictures
from fer_deploy.exporting.toolchain import Toolchain, import_toolchain

Report = Callable[[str], None]
METRICS_FILE: Final = "metrics.json"


def export_bundle(
    model_path: str | Path,
    output: str | Path,
    *,
    name: str | None = None,
    data: str | Path | None = None,
    network: ForeignContract | None = None,
    overwrite: bool = False,
    report: Report = lambda line: None,
) -> Bundle:
    """Makes a bundle of a trained Keras model: the Keras file and ONNX fp32, proved to compute the same.

    Args:
        model_path: A ``.keras`` file, trained on any Keras backend: input (N, 48, 48, 1), gray pixels 0..255; output
            (N, 7), probabilities in FER-2013's class order. Mixed precision is rebuilt in float32. An old ``.h5`` too.
        output: The bundle's folder, written whole or not at all.
        name: What the model is called in tables; the output folder's name where None.
        data: FER-2013 in any form; its PublicTest pictures are then compared, else a built-in set is.
        network: What the model takes and gives where that is not as above: it is then wrapped to be so.
        overwrite: Whether a bundle that lies at ``output`` is replaced.
        report: Called with one line before each step.

    Returns:
        The bundle as it lies in ``output``; each ONNX artefact's ``made_with["parity"]`` says what was compared.

    Raises:
        MissingDependencyError: TensorFlow, tf2onnx, onnx or onnxslim is not installed.
        UsageError: The name is empty or unprintable, or Keras is already loaded on another backend in this process.
        ModelError: The file is not a model of this contract or not what ``network`` says, does not convert, or
            computes otherwise in ONNX.
        DataError: ``data`` is not FER-2013.
        OutputError: ``output`` is taken or cannot be written.
    """
    source, target = Path(model_path), Path(output)
    title = name or target.absolute().name
    if not title or not title.isprintable():
        raise UsageError(f"The name {title!r} is no name for a bundle: give one of printable characters with --name")
    check_output(target, overwrite)
    check_model_file(source)
    pictures = parity_pictures(Path(data) if data is not None else None)
    report("Loading TensorFlow")
    with quiet():
        tools = import_toolchain()
        report(f"Reading {source}")
        loaded = load_keras_file(source, tools, network)
        with new_folder(target) as folder:
            _fill(folder, source, loaded, pictures, tools, title, report)
    return Bundle.load(target)


def _fill(
    folder: Path, source: Path, loaded: LoadedModel, pictures: PictureSet, tools: Toolchain, name: str, report: Report
) -> None:
    """Writes every file of the bundle into a folder, the manifest last."""
    content = source.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if loaded.changed:
        loaded.model.save(folder / KERAS_FILE)
    else:
        (folder / KERAS_FILE).write_bytes(content)
    report("Converting to ONNX")
    (folder / ONNX_FILE).write_bytes(onnx.convert(loaded.model, digest, tools))
    saved_with = {"keras": tools.keras.__version__, "rebuilt_from": list(loaded.saved_policies)}
    if loaded.network is not None:
        saved_with["network"] = asdict(loaded.network)
    artefacts = (
        describe_file(folder, KERAS_FILE, "keras", "fp32", saved_with),
        describe_file(folder, ONNX_FILE, "onnx", "fp32", onnx.made_with(tools)),
    )
    bundle = Bundle(folder, name, digest, artefacts, training_summary(source.with_name(METRICS_FILE), report))
    report(f"Comparing with Keras: {pictures.name}")
    proof = [asdict(entry) for entry in check_parity(bundle, pictures)]
    proved = replace(artefacts[1], made_with={**artefacts[1].made_with, "parity": proof})
    replace(bundle, artefacts=(artefacts[0], proved)).save()


def training_summary(metrics: Path, report: Report) -> dict[str, Any]:
    """Takes the summary out of what training recorded beside the model; empty where there is no such record."""
    if not metrics.is_file():
        return {}
    try:
        summary = json.loads(metrics.read_text(encoding="utf-8"))["summary"]
        return {str(key): _finite(value) for key, value in summary.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        report(f"Left out: {metrics} is not a record of our training")  # other tools use that name too
        return {}


def _finite(value: Any) -> Any:
    """Copies JSON values with NaN and infinities as null, which is all that JSON has for them."""
    if isinstance(value, dict):
        return {key: _finite(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_finite(child) for child in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
