"""Child processes that run a function of this package: how they are started, and how their end is described."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any, Final

_PROGRAM: Final = """
import importlib, json, sys
sys.path[:] = json.loads(sys.argv[1])
module, _, function = sys.argv[2].partition(":")
getattr(importlib.import_module(module), function)(sys.argv[3])
"""


def child_command(function: str, request: Mapping[str, Any]) -> list[str]:
    """Returns the command line of a process that calls a function with a request.

    The process imports the same modules as this one, not those that happen to lie in the working directory (``-P``).

    Args:
        function: ``"module:function"``; called with the request as JSON text.
        request: What JSON can hold.
    """
    return [sys.executable, "-P", "-c", _PROGRAM, json.dumps(sys.path), function, json.dumps(request)]


def describe_exit(code: int, output: IO[bytes]) -> str:
    """Describes how a process ended, in words that follow its name.

    Args:
        code: Its exit code, as ``subprocess`` returns it.
        output: The file that it wrote to; its last line is quoted.
    """
    if code < 0:
        with suppress(ValueError):  # a signal without a name
            return f"crashed (signal {-code}, {signal.Signals(-code).name})"
        return f"crashed (signal {-code})"
    output.seek(0)
    last = output.read().decode(errors="replace").strip().rpartition("\n")[2]
    return f"ended with exit code {code}" + (f": {last[:200]}" if last else "")
