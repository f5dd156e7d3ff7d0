"""Keeps the chatter of native libraries off the terminal."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from fer_deploy.errors import FerDeployError


@contextmanager
def quiet() -> Iterator[None]:
    """Holds back what native code writes to stderr; shows it after all when the block fails unexpectedly.

    TensorFlow logs from C++ before any of its switches work, so the file descriptor itself is diverted, for the whole
    process. Python's own ``sys.stderr`` still reaches the terminal, so progress goes on.
    """
    sys.stderr.flush()
    python_stderr, terminal = sys.stderr, os.dup(2)
    with tempfile.TemporaryFile() as held_back, os.fdopen(terminal, "w") as direct:
        os.dup2(held_back.fileno(), 2)
        if python_stderr is sys.__stderr__:
            sys.stderr = direct
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except FerDeployError:
            raise
        except Exception:
            held_back.seek(0)
            direct.write(held_back.read().decode(errors="replace"))
            raise
        finally:
            direct.flush()
            sys.stderr = python_stderr
            os.dup2(terminal, 2)
