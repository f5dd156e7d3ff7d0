"""A model in Keras's old HDF5 format (``.h5``, ``.hdf5``), looked into before Keras reads it; only export takes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from fer_deploy.errors import MissingDependencyError, ModelError
from fer_deploy.keras_file import HDF5_MAGIC, check_config, check_keras_file, in_other_files

SUFFIXES: Final = (".h5", ".hdf5")
MAX_WEIGHTS_BYTES: Final = 4 << 30
"""Of all weights once unpacked: a small compressed file can stand for any number of them."""


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
