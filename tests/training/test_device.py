"""The precision that training is fast in."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")

ASK = """
from fer_deploy.training import device
faster = device.bfloat16_convolves_faster()
told = device.resolve_precision("auto")
assert device.gpu_name() or device.cpu_has_bfloat16() or told == "float32", told
device.bfloat16_convolves_faster = lambda: False
assert device.gpu_name() or device.resolve_precision("auto") == "float32"
assert device.resolve_precision("mixed_bfloat16") == "mixed_bfloat16"  # what was asked for is not second-guessed
print(faster)
"""


def test_bfloat16_is_taken_only_where_it_is_faster() -> None:
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("True", "False")
