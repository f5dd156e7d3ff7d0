"""From process start to the answer for one picture: ``infer``, the bare minimum, and ``--help``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cold_start import BARE

from fer_deploy.bundle import Bundle

PICTURE = Path(__file__).parents[2] / "samples/admiral_48.png"


@pytest.mark.parametrize("what", ["bare", "infer", "help"])
def test_process(benchmark: Any, bundle: Bundle, what: str) -> None:
    model = next(a.file for a in bundle.artefacts if (a.format, a.precision) == ("onnx", "fp32"))
    command = {
        "bare": ["-c", BARE, str(bundle.path / model)],
        "infer": ["-m", "fer_deploy", "infer", str(PICTURE)],
        "help": ["-m", "fer_deploy", "--help"],
    }[what]
    benchmark.group = "process start to end"
    call = [sys.executable, *command]
    benchmark.pedantic(lambda: subprocess.run(call, check=True, capture_output=True), rounds=10, warmup_rounds=1)
