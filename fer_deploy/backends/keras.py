"""Keras: the model as it was trained, on the CPU; what all other forms are compared with."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from fer_deploy.backends.base import Backend, Images, Probabilities
from fer_deploy.bundle.keras_file import check_weights
from fer_deploy.errors import BackendError
from fer_deploy.system.quiet import quiet

_EFFECTIVE = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


class KerasBackend(Backend):
    """Runs the bundle's .keras file on whichever framework Keras is set to; threads take turns in ``run``."""

    name = "keras"
    install = ("fer-deploy[export]",)
    format = "keras"
    modules = ("keras", "tensorflow|torch|jax")
    precisions = ("fp32",)

    _model: Any = None

    def _load(self) -> None:
        content = self.bundle.read("keras")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with quiet():
            import keras

            self._set_threads(keras)
            self._cpu: Callable[[], AbstractContextManager[Any]] = lambda: keras.device("cpu:0")
            # Keras reads from a path only; the copy holds the very bytes whose hash was checked
            with tempfile.NamedTemporaryFile(suffix=".keras") as file, self._cpu():
                file.write(content)
                file.flush()
                check_weights(Path(file.name), f"The Keras model of {self.bundle.path}")
                self._model = keras.saving.load_model(file.name, compile=False, safe_mode=True)
        (takes,), (gives,) = self._model.inputs, self._model.outputs
        # how inputs and outputs are called, and that pixel values come as floats, is the model's own affair
        self._check_model(
            ("image", "uint8", str(tuple(takes.shape[1:]))), ("probabilities", gives.dtype, str(tuple(gives.shape[1:])))
        )
        self._input_type = takes.dtype
        computed = {layer.compute_dtype for layer in self._model.layers if layer.weights}
        self.effective = "+".join(sorted(_EFFECTIVE.get(kind, kind) for kind in computed))
        framework = keras.backend.backend()
        self.runtime = f"Keras {keras.__version__} on {framework}"
        self._turn = threading.Lock()

    def _set_threads(self, keras: Any) -> None:
        if self.threads is None:
            return
        if keras.backend.backend() != "tensorflow":
            raise BackendError("The keras backend takes a number of threads on TensorFlow only")
        import tensorflow

        try:
            tensorflow.config.threading.set_intra_op_parallelism_threads(self.threads)
        except RuntimeError as error:
            raise BackendError(
                "TensorFlow's number of threads cannot be changed once it runs: ask for it before anything else uses it"
            ) from error

    def _infer(self, batch: Images) -> Probabilities:
        with self._turn, self._cpu():
            result: Probabilities = np.asarray(self._model.predict_on_batch(batch.astype(self._input_type)))
        return result

    def _unload(self) -> None:
        self._model = None
