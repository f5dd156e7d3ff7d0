"""One export from end to end: load, convert, compare, write.

Writes a bundle's folder whole or not at all: it grows beside its place and is renamed into it when complete.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from fer_deploy.bundle.manifest import MANIFEST, Artefact, Bundle, describe_file
from fer_deploy.bundle.reference_predictions import OUTPUTS_FILE, RecordedPartition, fingerprint, write_outputs
from fer_deploy.data.probe import probe_images
from fer_deploy.errors import BundleError, UsageError
from fer_deploy.exporting import onnx
from fer_deploy.exporting.adapter import LoadedModel, check_model_file, load_keras_file
from fer_deploy.exporting.contract import ModelContract
from fer_deploy.exporting.engines import ENGINE_PRECISIONS, check_with_tensorrt, trtexec_lines
from fer_deploy.exporting.export_recipe import ExportRecipe
from fer_deploy.exporting.fp16 import to_fp16
from fer_deploy.exporting.inputs import ExportInputs, gather
from fer_deploy.exporting.int8.graph import CPU, TENSORRT
from fer_deploy.exporting.int8.quantise import quantise, quantiser
from fer_deploy.exporting.onnx import Toolchain, import_toolchain
from fer_deploy.exporting.parity import Parity, check_parity, keras_predictions
from fer_deploy.exporting.temperature import TemperatureScaling, fit_scaling
from fer_deploy.metrics.calibration import reliability
from fer_deploy.system.files import check_writable, written_whole
from fer_deploy.system.quiet import quiet

Report = Callable[[str], None]
Extra = Callable[[Bundle, Report], Sequence[Artefact]]
"""Adds files to a bundle in the making (engines, ...) and returns their entries."""
METRICS_FILE: Final = "metrics.json"
KERAS_FILE = "model.keras"
ONNX_FILE = "model.onnx"
ONNX_FILES = {
    "fp32": ONNX_FILE,
    **{precision: f"model.{precision}.onnx" for precision in ("fp16", "int8", "int8-trt")},
}
"""Precision -> file name."""


def export_bundle(
    model_path: str | Path,
    output: str | Path,
    *,
    name: str | None = None,
    precisions: Sequence[str] | None = None,
    data: str | Path | None = None,
    calibration: str | Path | None = None,
    force_calibration: bool = False,
    recipe: ExportRecipe | None = None,
    network: ModelContract | None = None,
    extras: Sequence[Extra] = (),
    overwrite: bool = False,
    report: Report = lambda line: None,
) -> Bundle:
    """Makes a bundle of a trained Keras model: the Keras file and an ONNX file per precision, each proved.

    Args:
        model_path: A ``.keras`` file, trained on any Keras backend: input (N, 48, 48, 1), gray pixels 0..255; output
            (N, 7), probabilities in FER-2013's class order. Mixed precision is rebuilt in float32. An old ``.h5`` too.
        output: The bundle's folder, written whole or not at all.
        name: What the model is called in tables; the output folder's name where None.
        precisions: Of ``fp32``, ``fp16``, ``int8``, ``int8-trt``; None for all that can be made with what is given.
            fp32 always is, since the others are made of it.
        data: FER-2013 in any form; its PublicTest pictures are then compared, else a built-in set is, and Keras's
            answers to its test pictures are recorded.
        calibration: FER-2013 whose Training partition INT8 is calibrated on; ``data`` where None.
        force_calibration: Whether test pictures are taken where there is no Training partition.
        recipe: How INT8 is made, whether a temperature goes into the last layer (then ``data`` must have PublicTest),
            and the accuracy that ``verify`` is to hold the bundle to.
        network: What the model takes and gives where that is not as above: it is then wrapped to be so.
        extras: Called in turn with the bundle, all ONNX files proved but no manifest written; each returns the
            artefacts that it added to the bundle's folder.
        overwrite: Whether a bundle that lies at ``output`` is replaced.
        report: Called with one line before each step, and one that begins with "Left out" for what is not made.

    Returns:
        The bundle as it lies in ``output``; each ONNX artefact's ``made_with["parity"]`` says what was compared.

    Raises:
        MissingDependencyError: TensorFlow, tf2onnx, onnx or onnxslim is not installed, or ONNX Runtime where INT8 is
            asked for.
        UsageError: The name is empty or unprintable, a precision is unknown, INT8 or a temperature is asked for and
            there is nothing to make it with, no temperature fits, or Keras is already loaded on another backend in this
            process.
        ModelError: The file is not a model of this contract or not what ``network`` says, does not convert, or a form
            computes otherwise than Keras.
        DataError: ``data`` or ``calibration`` is not FER-2013.
        OutputError: ``output`` is taken or cannot be written.
    """
    source, target = Path(model_path), Path(output)
    title = name or target.absolute().name
    if not title or not title.isprintable():
        raise UsageError(f"The name {title!r} is no name for a bundle: give one of printable characters with --name")
    check_output(target, overwrite)
    check_model_file(source)
    given = gather(precisions, data, calibration, force_calibration, recipe or ExportRecipe(), report)
    report("Loading TensorFlow")
    with quiet():
        tools = import_toolchain()
        report(f"Reading {source}")
        loaded = load_keras_file(source, tools, network)
        with new_folder(target) as folder:
            _fill(folder, source, loaded, given, tools, title, extras, report)
    return Bundle.load(target)


def _fill(
    folder: Path,
    source: Path,
    loaded: LoadedModel,
    given: ExportInputs,
    tools: Toolchain,
    name: str,
    extras: Sequence[Extra],
    report: Report,
) -> None:
    """Writes every file of the bundle into a folder, the manifest last."""
    scaling = None
    if given.recipe.fit_temperature:
        report("Fitting the temperature of the probabilities on PublicTest")
        scaling = fit_scaling(source, loaded.model, given.tests)
    content = source.read_bytes()
    digest = _write_keras(folder / KERAS_FILE, content, loaded, scaling)
    saved_with = {"keras": tools.keras.__version__, "rebuilt_from": list(loaded.saved_policies)}
    if loaded.network is not None:
        saved_with["network"] = asdict(loaded.network)
    keras = describe_file(folder, KERAS_FILE, "keras", "fp32", saved_with)
    report("Converting to ONNX")
    variants = _write_variants(folder, onnx.convert(loaded.model, digest, tools), given, tools, report)
    target = round(given.recipe.target_accuracy / 100, 6) or None
    training = training_summary(source.with_name(METRICS_FILE), report)
    bundle = Bundle(folder, name, digest, (keras, *variants), training, target)
    report(f"Comparing with Keras: {given.images.name}")
    predictions = keras_predictions(
        bundle, [probe_images(), given.images.images, *(test.images for test in given.tests.values())]
    )
    found = check_parity(bundle, given.images, predictions[1])
    reader = check_with_tensorrt(bundle)
    proved = [_with_proof(variant, found, reader) for variant in variants]
    recorded = {
        name: RecordedPartition(fingerprint(test.images), probabilities)
        for (name, test), probabilities in zip(given.tests.items(), predictions[2:], strict=True)
    }
    if scaling is not None:
        after = {name: reliability(recorded[name].probabilities, test.labels) for name, test in given.tests.items()}
        of = {"source_sha256": hashlib.sha256(content).hexdigest(), **scaling.as_dict(after)}
        keras = replace(keras, made_with={**keras.made_with, "temperature": of})
    file = write_outputs(folder, probe=predictions[0], partitions=recorded)
    outputs = describe_file(folder, file, "outputs", "fp32", {"partitions": sorted(recorded)})
    bundle = replace(bundle, artefacts=(keras, *proved, outputs))
    for extra in extras:
        bundle = replace(bundle, artefacts=(*bundle.artefacts, *extra(bundle, report)))
    bundle.save()


def _write_keras(target: Path, source: bytes, loaded: LoadedModel, scaling: TemperatureScaling | None) -> str:
    """Writes the Keras file; returns the SHA-256 of what all is made from.

    That is the source, whose weights a rebuilt model has too, but for a temperature: with it, it is another model.
    """
    if not loaded.changed and not (scaling and scaling.folded):
        target.write_bytes(source)
    else:
        loaded.model.save(target)
    made_from = target.read_bytes() if scaling and scaling.folded else source
    return hashlib.sha256(made_from).hexdigest()


def _write_variants(
    folder: Path, content: bytes, given: ExportInputs, tools: Toolchain, report: Report
) -> list[Artefact]:
    """Writes the ONNX files of all wanted precisions; returns their manifest entries."""
    made_with = dict(onnx.made_with(tools))
    contents = {"fp32": (content, made_with)}
    if "fp16" in given.precisions:
        report("Converting to fp16")
        contents["fp16"] = (to_fp16(content), made_with)
    kinds = [kind for kind in (CPU, TENSORRT) if kind in given.precisions]
    if kinds and given.calibration is not None:
        report(f"Quantising to INT8 on {given.calibration.count} {given.calibration.partition} pictures")
        quantised = quantise(content, given.calibration.images, given.recipe.int8, kinds)
        how = {
            "opset": made_with["opset"],
            "tools": {**made_with["tools"], **quantiser()},
            "recipe": given.recipe.name,
            "quantisation": asdict(given.recipe.int8),
            "calibration": given.calibration.as_dict(),
        }
        contents.update((kind, (quantised[kind], how)) for kind in kinds)
    variants = []
    for precision, (data, how) in contents.items():
        (folder / ONNX_FILES[precision]).write_bytes(data)
        variant = describe_file(folder, ONNX_FILES[precision], "onnx", precision, how)
        if precision in ENGINE_PRECISIONS:
            variant = replace(variant, made_with={**how, "build_elsewhere": trtexec_lines(variant)})
        variants.append(variant)
    return variants


def _with_proof(variant: Artefact, found: Sequence[Parity], reader: str | None) -> Artefact:
    """Adds to an ONNX file's entry what was compared, bfloat16 being of the fp32 file, and which TensorRT reads it."""
    mine = {"fp32": ("fp32", "bf16")}.get(variant.precision, (variant.precision,))
    proof = [asdict(entry) for entry in found if entry.precision in mine]
    read = {"read_by": reader} if reader and variant.precision == TENSORRT else {}
    return replace(variant, made_with={**variant.made_with, **read, "parity": proof})


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


def check_output(output: Path, overwrite: bool) -> None:
    """Refuses a place where a bundle cannot or must not be written, before any work is done.

    Raises:
        OutputError: Something is there already and ``overwrite`` is off; or it is not a bundle and nothing else, so
            that replacing it would delete what is not ours.
    """
    own = _bundle_files(output)
    check_writable(output, overwrite, is_folder=True, new_parents=True, replaceable=own.__contains__)


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Gives a new folder to fill, and puts it in the place of ``output`` when the block ends without an error.

    Raises:
        OutputError: The folder cannot be made, filled or moved; nothing is left behind, what was there stays.
    """
    output = output.resolve()  # through a link: the folder that it leads to is replaced
    with written_whole(output) as partial:
        partial.mkdir(parents=True)
        yield partial


def _bundle_files(folder: Path) -> set[str]:
    """Names at the top of a bundle's folder that belong to the bundle; none where there is no manifest."""
    if not (folder / MANIFEST).is_file():
        return set()
    names = {MANIFEST, KERAS_FILE, OUTPUTS_FILE, *ONNX_FILES.values()}
    with suppress(BundleError):  # damaged: the names that export writes are known all the same
        names.update(artefact.file.partition("/")[0] for artefact in Bundle.load(folder).artefacts)
    return names
