"""Reads a Keras file for export: safely, in float32 throughout, and checked against the contract or wrapped into it.

A model in Keras's old HDF5 format (``.h5``, ``.hdf5``), looked into before Keras reads it; only export takes it.

Puts a foreign Keras network into the project's contract: what its user did around it moves into the graph.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from fer_deploy.bundle.keras_file import HDF5_MAGIC, check_config, check_keras_file, check_weights, in_other_files
from fer_deploy.data.probe import probe_images
from fer_deploy.errors import MissingDependencyError, ModelError, one_line
from fer_deploy.exporting.contract import IGNORED, ModelContract
from fer_deploy.exporting.onnx import Toolchain
from fer_deploy.labels import INPUT_SHAPE, NUM_CLASSES

REDUCED: Final = frozenset({"float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16"})
SUFFIXES: Final = (".h5", ".hdf5")
MAX_WEIGHTS_BYTES: Final = 4 << 30
"""Of all weights once unpacked: a small compressed file can stand for any number of them."""
ROUNDING: Final = 1e-3
"""How far from 1 a row of probabilities may sum."""
TINY: Final = 1e-12
"""Added where outputs are left out, so that what is left has a sum to be divided by."""


@dataclass(frozen=True)
class LoadedModel:
    """A Keras model that computes in float32.

    Args:
        model: The model, uncompiled.
        saved_policies: The other dtype policies that it was saved with (``mixed_bfloat16``, ...); empty for one that
            was float32 all along.
        changed: Whether the model is another than the file holds, so that it has to be saved anew.
        network: What the network inside the model takes and gives, where the model was wrapped.
    """

    model: Any
    saved_policies: tuple[str, ...]
    changed: bool
    network: ModelContract | None = None


def load_keras_file(path: Path, tools: Toolchain, network: ModelContract | None = None) -> LoadedModel:
    """Loads a ``.keras`` or HDF5 file in Keras's safe mode, after ``check_model_file``.

    Args:
        path: The file, as ``model.save("x.keras")`` writes it, or ``model.save("x.h5")`` did.
        tools: The imported packages.
        network: What the model takes and gives, where that is not our contract: it is then wrapped into it.

    Returns:
        The model with every layer in float32: a mixed-precision model is rebuilt, because bfloat16 graphs are
        rejected by runtimes and float16 ones keep their batch normalisation.

    Raises:
        ModelError: Keras cannot load it, its weights lie elsewhere, it is not of the contract's shape, or not what
            ``network`` says.
    """
    if not is_hdf5(path):
        check_weights(path, str(path))
    try:
        model = tools.keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises nearly every type here; none of them names the file
        raise ModelError(f"{path} cannot be loaded by Keras {tools.keras.__version__}: {one_line(error)}") from error
    if network is None:
        _check_contract(path, model)
    saved, (config, policies) = model, _to_float32(model.get_config())
    if policies:
        weights = model.get_weights()
        model = type(model).from_config(config)
        model.set_weights(weights)
    model = flatten(model, tools) if network is None else wrap(path, model, network, tools)
    changed = model is not saved or is_hdf5(path)
    return LoadedModel(model, tuple(sorted(policies)), changed, network)


def _check_contract(path: Path, model: Any) -> None:
    """Refuses a model of other inputs and outputs than one gray picture in, seven probabilities out."""
    found, wanted = shapes_of(model), ([(None, *INPUT_SHAPE)], [(None, NUM_CLASSES)])
    for verb, shapes, expected in zip(("takes", "gives"), found, wanted, strict=True):
        if shapes != expected:
            options = options_for(model)
            raise ModelError(
                f"{path} {verb} {describe_shapes(shapes)}; the contract is one input of shape {wanted[0][0]}, gray "
                f"pixels 0..255, and one output of shape {wanted[1][0]}, probabilities in FER-2013's class order"
                + (f". To wrap another network into it, pass {options}" if options else "")
            )


def _to_float32(config: Any) -> tuple[Any, set[str]]:
    """Copies a model's config with every dtype policy set to float32; returns the policies that were replaced."""
    if isinstance(config, list):
        pairs = [_to_float32(child) for child in config]
        return [child for child, _ in pairs], set().union(*(found for _, found in pairs))
    if not isinstance(config, dict):
        return config, set()
    copy, found = {}, set()
    is_policy = config.get("class_name") == "DTypePolicy"
    for key, child in config.items():
        name = child.get("name") if is_policy and key == "config" and isinstance(child, dict) else child
        if ((is_policy and key == "config") or key == "dtype") and isinstance(name, str) and name in REDUCED:
            copy[key] = "float32" if key == "dtype" else {**child, "name": "float32"}
            found.add(name)
        else:
            copy[key], inner = _to_float32(child)
            found |= inner
    return copy, found


def check_model_file(path: Path) -> None:
    """Looks into a ``.keras`` or HDF5 file without Keras, so that a wrong file is refused at once.

    Raises:
        ModelError: Not a Keras file, truncated or damaged, or in need of more than Keras's own layers; an HDF5 file
            also where it has weights only, a name that Keras does not take for HDF5, or its content in other files.
        MissingDependencyError: It is HDF5, and h5py, which comes with Keras, is not installed.
    """
    if is_hdf5(path):
        check_config(_read_hdf5_config(path), str(path))
    else:
        check_keras_file(path)


def is_hdf5(path: Path) -> bool:
    """Whether a file starts as HDF5 does; a file that cannot be read does not."""
    try:
        with path.open("rb") as file:
            return file.read(len(HDF5_MAGIC)) == HDF5_MAGIC
    except OSError:
        return False


def _read_hdf5_config(path: Path) -> Any:
    """Reads the architecture out of an HDF5 file that Keras saved."""
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError("What reads HDF5 (h5py)", "fer-deploy[export]") from error
    if path.suffix not in SUFFIXES:
        raise ModelError(f"{path} is HDF5, and Keras takes HDF5 only under a name that ends in .h5: rename it")
    try:
        with h5py.File(path, "r") as file:
            _refuse_what_leads_out(path, file, h5py)
            text = file.attrs.get("model_config")
    except ModelError:
        raise
    except (OSError, KeyError, ValueError, RuntimeError) as error:  # h5py has no error type of its own
        raise ModelError(f"{path} is truncated or damaged: it cannot be read as HDF5") from error
    if text is None:
        raise ModelError(
            f"{path} holds weights without the network that they belong to: build it in Keras, load them with "
            "model.load_weights, and save the whole with model.save('model.keras')"
        )
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: its model_config is not valid JSON") from error


def _refuse_what_leads_out(path: Path, file: Any, h5py: Any) -> None:
    """Refuses links and datasets that have their content in other files, and content without bounds."""
    outside = next(in_other_files(file, h5py), None)
    if outside:
        raise ModelError(f"{path} keeps {outside!r:.200} in another file, which is not read")
    unpacked_bytes = 0

    def add(name: str, entry: Any) -> None:
        nonlocal unpacked_bytes
        if isinstance(entry, h5py.Dataset):
            unpacked_bytes += entry.nbytes

    file.visititems(add)
    if unpacked_bytes > MAX_WEIGHTS_BYTES:
        raise ModelError(f"{path} stands for {unpacked_bytes / 1e9:.0f} GB of weights: more than any network that fits")


def wrap(path: Path, model: Any, contract: ModelContract, tools: Toolchain) -> Any:
    """Makes a model of our contract around a foreign one.

    Args:
        path: The model's file, for errors.
        model: A float32 Keras model with one input (N, height, width, channels) and one output (N, classes).
        contract: What it takes and gives.
        tools: The imported packages.

    Returns:
        An uncompiled functional model of Keras's own layers and operations. Input ``image``: float32 of 0..255, shape
        (N, 48, 48, 1). Output: float32, shape (N, 7), probabilities in FER-2013's class order.

    Raises:
        ModelError: The model's shapes or outputs are not what ``contract`` says; the text says what to pass.
    """
    _check_shapes(path, model, contract)
    keras = tools.keras
    image = keras.layers.Input(INPUT_SHAPE, name="image")
    outputs = flatten(model, tools)(_prepare(image, contract, keras))
    predictions = keras.Model(image, outputs)(probe_images().astype(np.float32), training=False)
    _check_outputs(path, np.asarray(predictions), contract)
    if contract.logits:
        outputs = keras.layers.Softmax(name="softmax")(outputs)
    if contract.order != tuple(range(len(contract.classes))):
        outputs = keras.ops.take(outputs, list(contract.order), axis=-1)
    if IGNORED in contract.classes:
        outputs = outputs + TINY
        outputs = outputs / keras.ops.sum(outputs, axis=-1, keepdims=True)
    return keras.Model(image, outputs, name="wrapped")


def flatten(model: Any, tools: Toolchain) -> Any:
    """Returns a model that takes and gives a tensor; old files have lists of one in their place."""
    if isinstance(model, tools.keras.Sequential):
        return model
    if not any(isinstance(structure, list | tuple | dict) for structure in (model.input, model.output)):
        return model
    return tools.keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def describe_shapes(shapes: list[tuple[Any, ...]]) -> str:
    """Writes the shapes of a model's inputs or outputs for an error."""
    return " and ".join(map(str, shapes)) or "nothing of a known shape"


def shapes_of(model: Any) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Returns the shapes of a model's inputs and of its outputs."""
    inputs = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or ()]
    return inputs, [tuple(tensor.shape) for tensor in getattr(model, "outputs", None) or ()]


def options_for(model: Any) -> str:
    """Says with which options a model of other shapes can be exported; empty where none help."""
    inputs, outputs = shapes_of(model)
    if len(inputs) != 1 or len(inputs[0]) != 4 or len(outputs) != 1 or len(outputs[0]) != 2:
        return ""
    height, width, channels = inputs[0][1:]
    if channels not in (1, 3) or not outputs[0][1] or outputs[0][1] < NUM_CLASSES:
        return ""
    more = f", {IGNORED!r} for what is none of FER-2013's seven" if outputs[0][1] > NUM_CLASSES else ""
    return (
        f"--input-size {height or 'HEIGHT'}x{width or 'WIDTH'} --channels {channels} --scale LOW,HIGH "
        f"--classes NAME,... (the names of its {outputs[0][1]} outputs in their order{more})"
    )


def _check_shapes(path: Path, model: Any, contract: ModelContract) -> None:
    """Refuses a model whose shapes are others than the contract's; a free height or width is taken as stated."""
    inputs, outputs = shapes_of(model)
    wanted = (None, *contract.input_size, contract.channels)
    free = (None, None, None, contract.channels)
    fits = len(inputs) == 1 and len(inputs[0]) == len(wanted)
    if not fits or any(side not in pair for side, pair in zip(inputs[0], zip(wanted, free, strict=True), strict=True)):
        size, options = "x".join(map(str, contract.input_size)), options_for(model)
        raise ModelError(
            f"{path} takes {describe_shapes(inputs)}, not {wanted} as --input-size {size} and --channels "
            f"{contract.channels} say"
            + (f": pass {options}" if options else "; export takes networks of one input (N, height, width, 1 or 3)")
        )
    if outputs != [(None, len(contract.classes))]:
        raise ModelError(
            f"{path} gives {describe_shapes(outputs)}, and --classes names {len(contract.classes)} outputs: name each "
            f"output, in their order; export takes networks of one output (N, {NUM_CLASSES} or more)"
        )


def _prepare(image: Any, contract: ModelContract, keras: Any) -> Any:
    """From pixels 0..255, (N, 48, 48, 1), to what the network was trained on."""
    x = image
    if contract.input_size != INPUT_SHAPE[:2]:
        resize = keras.layers.Resizing(*contract.input_size, "bilinear", data_format="channels_last", name="resize")
        x = resize(x, training=False)  # its own default is True, which Keras would hand on to every layer after it
        if contract.round_pixels:
            x = keras.ops.round(x)
    low, high = contract.scale
    if contract.scale != (0, 255):
        x = keras.layers.Rescaling((high - low) / 255, offset=low, name="scale")(x)
    if contract.channels > 1:
        x = keras.layers.Concatenate(name="channels")([x] * contract.channels)
    if contract.mean or contract.std:
        mean, std = contract.mean or (0.0,), contract.std or (1.0,)
        mean, std = (values * contract.channels if len(values) == 1 else values for values in (mean, std))
        factors, offsets = [1 / s for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
        x = keras.layers.Rescaling(factors, offset=offsets, name="normalise")(x)
    return x


def _check_outputs(path: Path, outputs: Any, contract: ModelContract) -> None:
    """Refuses outputs that are not the probabilities, or the logits, that the contract says; shape (N, classes)."""
    if not np.isfinite(outputs).all():
        raise ModelError(f"{path} gives values that are not finite: its weights are damaged, or --scale is wrong")
    sums = outputs.sum(axis=1)
    probabilities = bool((outputs >= 0).all() and np.abs(sums - 1).max() <= ROUNDING)
    if probabilities and contract.logits:
        raise ModelError(f"{path} gives probabilities already: a second softmax would flatten them. Pass no --logits")
    if not probabilities and not contract.logits:
        raise ModelError(
            f"{path} gives no probabilities: values from {outputs.min():.3g} to {outputs.max():.3g}, rows that sum to "
            f"{sums.min():.3g} to {sums.max():.3g}. Pass --logits if a softmax is missing at its end"
        )
