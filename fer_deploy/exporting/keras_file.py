"""Reads a ``.keras`` file for export: safely, checked against the contract, in float32 throughout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fer_deploy.errors import ModelError
from fer_deploy.exporting.toolchain import Toolchain
from fer_deploy.keras_file import check_weights
from fer_deploy.labels import INPUT_SHAPE, NUM_CLASSES

REDUCED: Final = frozenset({"float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16"})


@dataclass(frozen=True)
class LoadedModel:
    """A Keras model that computes in float32.

    Args:
        model: The model, uncompiled.
        saved_policies: The other dtype policies that it was saved with (``mixed_bfloat16``, ...); empty for one that
            was float32 all along.
    """

    model: Any
    saved_policies: tuple[str, ...]


def load_keras_file(path: Path, tools: Toolchain) -> LoadedModel:
    """Loads a ``.keras`` file in Keras's safe mode, after ``check_keras_file``.

    Args:
        path: The file, as ``model.save("x.keras")`` writes it.
        tools: The imported packages.

    Returns:
        The model with every layer in float32: a mixed-precision model is rebuilt, because bfloat16 graphs are
        rejected by runtimes and float16 ones keep their batch normalisation.

    Raises:
        ModelError: Keras cannot load it, its weights lie elsewhere, or it is not of the contract's shape.
    """
    check_weights(path, str(path))
    try:
        model = tools.keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises nearly every type here; none of them names the file
        raise ModelError(f"{path} cannot be loaded by Keras {tools.keras.__version__}: {_one_line(error)}") from error
    _check_contract(path, model)
    config, policies = _to_float32(model.get_config())
    if policies:
        weights = model.get_weights()
        model = type(model).from_config(config)
        model.set_weights(weights)
    return LoadedModel(model, tuple(sorted(policies)))


def _check_contract(path: Path, model: Any) -> None:
    """Refuses a model of other inputs and outputs than one gray picture in, seven probabilities out."""
    inputs = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or ()]
    outputs = [tuple(tensor.shape) for tensor in getattr(model, "outputs", None) or ()]
    for what, found, expected in (
        ("takes", inputs, (None, *INPUT_SHAPE)),
        ("gives", outputs, (None, NUM_CLASSES)),
    ):
        if found != [expected]:
            shapes = " and ".join(map(str, found)) or "nothing of a known shape"
            raise ModelError(
                f"{path} {what} {shapes}; the contract is one input of shape {(None, *INPUT_SHAPE)}, gray pixels "
                f"0..255, and one output of shape {(None, NUM_CLASSES)}, probabilities in FER-2013's class order"
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


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."
