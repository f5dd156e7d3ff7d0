"""Reads a ``.keras`` file for export: safely, checked against the contract, in float32 throughout."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fer_deploy.errors import ModelError
from fer_deploy.exporting.toolchain import Toolchain
from fer_deploy.labels import INPUT_SHAPE, NUM_CLASSES

CONTENTS: Final = frozenset({"config.json", "metadata.json", "model.weights.h5"})
REDUCED: Final = frozenset({"float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16"})
HDF5_MAGIC: Final = b"\x89HDF\r\n\x1a\n"


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


def check_keras_file(path: Path) -> None:
    """Looks into a ``.keras`` file without TensorFlow, so that a wrong file is refused at once.

    Raises:
        ModelError: Not a Keras file, truncated or damaged, or made with custom code.
    """
    found = sorted(set(_custom_names(_read_config(path))))
    if found:
        raise ModelError(
            f"{path} needs code that is not in the file: {', '.join(found)}. "
            "Export takes models of Keras's own layers only"
        )


def load_keras_file(path: Path, tools: Toolchain) -> LoadedModel:
    """Loads a ``.keras`` file in Keras's safe mode, after ``check_keras_file``.

    Args:
        path: The file, as ``model.save("x.keras")`` writes it.
        tools: The imported packages.

    Returns:
        The model with every layer in float32: a mixed-precision model is rebuilt, because bfloat16 graphs are
        rejected by runtimes and float16 ones keep their batch normalisation.

    Raises:
        ModelError: Keras cannot load it, or it is not of the contract's shape.
    """
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


def _read_config(path: Path) -> Any:
    """Reads the architecture, without how it was compiled, after checking that the archive is complete."""
    try:
        with path.open("rb") as file:
            start = file.read(len(HDF5_MAGIC))
        if start == HDF5_MAGIC:
            raise ModelError(f"{path} is HDF5, not .keras: load it in Keras and save it with model.save('model.keras')")
        with zipfile.ZipFile(path) as archive:
            missing = CONTENTS.difference(archive.namelist())
            if missing:
                raise ModelError(f"{path} is not a Keras file: the archive lacks {', '.join(sorted(missing))}")
            damaged = archive.testzip()
            if damaged:
                raise ModelError(f"{path} is damaged: the checksum of {damaged} in it is wrong")
            config = json.loads(archive.read("config.json"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except zipfile.BadZipFile as error:
        reason = "truncated or damaged" if start.startswith(b"PK") else "not a Keras file"
        raise ModelError(f"{path} is {reason}: expected a .keras archive as model.save writes it") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: its config.json is not valid JSON") from error
    return {key: value for key, value in config.items() if key != "compile_config"} if isinstance(config, dict) else {}


def _custom_names(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        name, module = node.get("class_name"), node.get("module")
        if name in ("Lambda", "__lambda__"):
            yield "a Lambda layer"
        elif isinstance(module, str) and module.partition(".")[0] not in ("keras", "builtins"):
            yield f"{module}.{name}"
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from _custom_names(child)


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
