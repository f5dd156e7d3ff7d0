"""Imports OpenVINO without its model converter, which fer-deploy never calls.

``import openvino`` brings ``openvino.tools.ovc`` along: it takes as long as all the rest of the package together, and
reports the import to its maker over the network. Without it OpenVINO is whole but for ``openvino.convert_model``, which
is imported when somebody asks for it.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from typing import Any, Final

_CONVERTER: Final = "openvino.tools.ovc"
_lock = threading.Lock()


def import_openvino() -> Any:
    """Returns the module ``openvino``, imported without its converter unless it is there already.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    with _lock:
        if "openvino" in sys.modules or _CONVERTER in sys.modules:
            return import_module("openvino")
        sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # Python's own way to say: not to be imported
        try:
            openvino = import_module("openvino")
        finally:
            del sys.modules[_CONVERTER]
    if not hasattr(openvino, "convert_model"):
        openvino.__dict__["__getattr__"] = _later
    return openvino


def _later(name: str) -> Any:
    """Gives ``openvino.convert_model`` to who asks for it (PEP 562)."""
    if name == "convert_model":
        return import_module(_CONVERTER).convert_model
    raise AttributeError(f"module 'openvino' has no attribute {name!r}")
