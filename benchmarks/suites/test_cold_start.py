"""From process start to the answer for one picture: ``infer``, the bare minimum, and ``--help``."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cold_start import BASELINES, INFER, commands

from fer_deploy.bundle.manifest import Bundle


@pytest.mark.parametrize("what", [*BASELINES, INFER, "--help"])
def test_process(benchmark: Any, bundle: Bundle, what: str, tmp_path: Path) -> None:
    command = commands(bundle, tmp_path)[what]
    benchmark.group = "process start to end"
    benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True), rounds=10, warmup_rounds=1)
