"""Backends by name: strings, resolved on use, so that no runtime is imported before it is wanted."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from fer_deploy.backends.base import Backend
from fer_deploy.errors import UsageError

BACKENDS: Final = {
    "keras": "fer_deploy.backends.keras:KerasBackend",
    "onnx": "fer_deploy.backends.onnxruntime:OnnxRuntimeBackend",
    "openvino": "fer_deploy.backends.openvino:OpenVinoBackend",
    "trt": "fer_deploy.backends.tensorrt.backend:TensorRtBackend",
}

MEASURING: Final = {"null": "fer_deploy.backends.null:NullBackend"}
"""Found by name only: no model runs in it, so it is no part of any ``all`` or ``auto``, except that of ``bench``."""


def backend_class(name: str) -> type[Backend]:
    """Returns the class of a backend.

    Raises:
        UsageError: There is no backend of that name.
    """
    known = {**BACKENDS, **MEASURING}
    if name not in known:
        raise UsageError(f"There is no backend {name!r}; there are: {', '.join(BACKENDS)}")
    module, _, attribute = known[name].partition(":")
    found: type[Backend] = getattr(import_module(module), attribute)
    return found
