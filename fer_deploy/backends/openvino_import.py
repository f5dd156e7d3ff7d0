"""Imports OpenVINO without its converter of models, which we never call.

``import openvino`` brings ``openvino.tools.ovc`` along: it takes as long as all the rest of the package together, and
reports the import to its maker over the network. Without it OpenVINO is whole but for ``openvino.convert_model``,
which still works for whoever asks for it: it is imported then.
"""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module
from typing import Any, Final

_CONVERTER: Final = "openvino.tools.ovc"
_lock = threading.Lock()
_cores: dict[int, Any] = {}


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


def shared_core() -> Any:
    """Returns the ``openvino.Core`` of this process, made once and never freed.

    Each Core sets an alternate stack for the thread's signal handlers, and sets back the one before when it goes. Of
    two that go in the order in which they came the second sets back the first one's, which is no more: the next signal
    (an interrupt, a timer) then ends the process. A forked process gets a Core of its own: it has none of the threads.

    Raises:
        ModuleNotFoundError: OpenVINO is not installed.
    """
    openvino = import_openvino()
    with _lock:
        if os.getpid() not in _cores:
            _cores[os.getpid()] = openvino.Core()
        return _cores[os.getpid()]


def _later(name: str) -> Any:
    """Gives ``openvino.convert_model`` to who asks for it (PEP 562)."""
    if name == "convert_model":
        return import_module(_CONVERTER).convert_model
    raise AttributeError(f"module 'openvino' has no attribute {name!r}")
