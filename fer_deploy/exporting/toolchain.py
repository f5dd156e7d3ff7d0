"""The heavy packages of an export: imported on use, on the TensorFlow backend, without their noise."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

from fer_deploy.errors import MissingDependencyError, UsageError


@dataclass(frozen=True)
class Toolchain:
    """The imported packages, so that they are imported in one place."""

    keras: Any
    tensorflow: Any
    tf2onnx: Any
    onnx: Any
    onnxslim: Any

    def versions(self) -> dict[str, str]:
        """Package name -> version, for the manifest."""
        return {name: str(getattr(self, name).__version__) for name in self.__dataclass_fields__}


def import_toolchain() -> Toolchain:
    """Imports what an export needs.

    A ``.keras`` file does not depend on the backend that trained it, and the converter reads TensorFlow graphs: so
    Keras is loaded on TensorFlow here, whatever ``KERAS_BACKEND`` says.

    Raises:
        MissingDependencyError: A package is not installed.
        UsageError: Keras is already loaded on another backend in this process.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    wanted = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        import keras
        import onnx
        import onnxslim
        import tensorflow
        import tf2onnx
    except ImportError as error:
        raise MissingDependencyError(f"What an export needs ({error.name})", "fer-deploy[export]") from error
    finally:  # only Keras's import reads it: processes that we start later keep the user's choice
        if wanted is None:
            del os.environ["KERAS_BACKEND"]
        else:
            os.environ["KERAS_BACKEND"] = wanted
    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            f"Keras is already loaded on the {keras.backend.backend()} backend in this process, and an export needs "
            "TensorFlow. Export in a process of its own: fer-deploy export model.keras"
        )
    for name in ("tensorflow", "absl", "tf2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return Toolchain(keras, tensorflow, tf2onnx, onnx, onnxslim)
