"""Runs fer-deploy in a process of its own, as a user would, under a Keras backend of choice."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fer_deploy.data.convert import convert
from fer_deploy.data.fer2013_reader import load_fer2013

Train = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="session")
def smoke() -> Path:
    return Path(__file__).parents[2] / "train/recipes/smoke.toml"


@pytest.fixture(scope="session")
def part(fer2013_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a seventh of the real FER-2013: every seventh picture of each partition."""
    data = load_fer2013(fer2013_path)
    partitions = {name: partition.take(slice(None, None, 7)) for name, partition in data.partitions.items()}
    folder = tmp_path_factory.mktemp("part") / "fer2013"
    convert(dataclasses.replace(data, partitions=partitions), folder)
    return folder


@pytest.fixture(scope="session")
def train(part: Path, smoke: Path) -> Train:
    """Starts ``fer-deploy train`` with the smoke recipe on a part of the data, under the fastest Keras there is."""
    framework = next((name for name in ("torch", "tensorflow") if importlib.util.find_spec(name)), None)
    if framework is None or importlib.util.find_spec("keras") is None:
        pytest.skip("no Keras with PyTorch or TensorFlow")

    def start(output: Path, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "fer_deploy", "train", "--data", str(part)]
        command += ["--recipe", str(smoke), "--output", str(output), *options]
        return subprocess.Popen(
            command,
            env={**os.environ, "KERAS_BACKEND": framework},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
