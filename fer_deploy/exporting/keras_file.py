"""Reads a Keras file for export: safely, in float32 throughout, and checked against the contract or wrapped into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fer_deploy.errors import ModelError, one_line
from fer_deploy.exporting.foreign import ForeignContract
from fer_deploy.exporting.hdf5_file import is_hdf5
from fer_deploy.exporting.toolchain import Toolchain
from fer_deploy.exporting.wrapping import describe_shapes, flatten, options_for, shapes_of, wrap
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
        changed: Whether the model is another than the file holds, so that it has to be saved anew.
        network: What the network inside the model takes and gives, where the model was wrapped.
    """

    model: Any
    saved_policies: tuple[str, ...]
    changed: bool
    network: ForeignContract | None = None


def load_keras_file(path: Path, tools: Toolchain, network: ForeignContract | None = None) -> LoadedModel:
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
