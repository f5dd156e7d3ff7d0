"""Puts a foreign Keras network into the project's contract: what its user did around it moves into the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from fer_deploy.errors import ModelError
from fer_deploy.evaluation.probe import probe_images
from fer_deploy.exporting.foreign import LEFT_OUT, ForeignContract
from fer_deploy.exporting.toolchain import Toolchain
from fer_deploy.labels import INPUT_SHAPE, NUM_CLASSES

ROUNDING: Final = 1e-3
"""How far from 1 a row of probabilities may sum."""

TINY: Final = 1e-12
"""Added where outputs are left out, so that what is left has a sum to be divided by."""


def wrap(path: Path, model: Any, contract: ForeignContract, tools: Toolchain) -> Any:
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
    answers = keras.Model(image, outputs)(probe_images().astype(np.float32), training=False)
    _check_outputs(path, np.asarray(answers), contract)
    if contract.logits:
        outputs = keras.layers.Softmax(name="softmax")(outputs)
    if contract.order != tuple(range(len(contract.classes))):
        outputs = keras.ops.take(outputs, list(contract.order), axis=-1)
    if LEFT_OUT in contract.classes:
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
    more = f", {LEFT_OUT!r} for what is none of FER-2013's seven" if outputs[0][1] > NUM_CLASSES else ""
    return (
        f"--input-size {height or 'HEIGHT'}x{width or 'WIDTH'} --channels {channels} --scale LOW,HIGH "
        f"--classes NAME,... (the names of its {outputs[0][1]} outputs in their order{more})"
    )


def _check_shapes(path: Path, model: Any, contract: ForeignContract) -> None:
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


def _prepare(image: Any, contract: ForeignContract, keras: Any) -> Any:
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


def _check_outputs(path: Path, outputs: Any, contract: ForeignContract) -> None:
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
