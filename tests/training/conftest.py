"""Runs fer-deploy in a process of its own, as a user would, under a Keras backend of choice."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Train = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="session")
def smoke() -> Path:
    return Path(__file__).parents[2] / "train/recipes/smoke.toml"


@pytest.fixture(scope="session")
def train(fer2013_path: Path, smoke: Path) -> Train:
    """Starts ``fer-deploy train`` with the smoke recipe; the fastest Keras backend that is installed."""
    framework = next((name for name in ("torch", "tensorflow") if importlib.util.find_spec(name)), None)
    if framework is None or importlib.util.find_spec("keras") is None:
        pytest.skip("no Keras with PyTorch or TensorFlow")

    def start(output: Path, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "fer_deploy", "train", "--data", str(fer2013_path)]
        command += ["--recipe", str(smoke), "--output", str(output), *options]
        return subprocess.Popen(
            command,
            env={**os.environ, "KERAS_BACKEND": framework},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
