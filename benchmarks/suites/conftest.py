"""What the suites share. They are no tests: ``pytest benchmarks/suites`` runs them, plain ``pytest`` does not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fer_deploy.backends.base import Backend
from fer_deploy.backends.registry import backend_class
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import MissingDependencyError, UnavailableError
from fer_deploy.system.machine import machine_info

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts beside this folder
SAMPLES = Path(__file__).parents[2] / "samples"


def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any]:
    """Replaces the plugin's description, which holds the machine's name, by ours, which does not."""
    return dict(machine_info())


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return Bundle.load(os.environ.get("FER_BUNDLE", "default"))


@pytest.fixture(scope="session")
def noise() -> NDArray[np.uint8]:
    """uint8, shape (256, 48, 48, 1)."""
    return np.random.default_rng(0).integers(0, 256, (256, 48, 48, 1), dtype=np.uint8)


@pytest.fixture(scope="session")
def opened(bundle: Bundle) -> Iterator[Callable[[str, str], Backend]]:
    """Returns a function that opens a backend once; what this machine lacks is skipped with its reason."""
    kept: dict[tuple[str, str], Backend] = {}

    def open_once(name: str, precision: str) -> Backend:
        if (name, precision) not in kept:
            try:
                kept[name, precision] = backend_class(name)(bundle, precision).open()
            except (MissingDependencyError, UnavailableError) as error:
                pytest.skip(str(error))
        return kept[name, precision]

    yield open_once
    for backend in kept.values():
        backend.close()


@pytest.fixture(scope="session")
def photo() -> Callable[[int, int], bytes]:
    """Returns a function that makes a JPEG of a size out of the sample photo, so that it has a photo's contents."""
    with Image.open(SAMPLES / "astronaut.jpg") as original:
        image = original.convert("RGB")

    def make(width: int, height: int) -> bytes:
        buffer = BytesIO()
        image.resize((width, height)).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def crop() -> bytes:
    """A face of 48x48 as PNG."""
    return (SAMPLES / "admiral_48.png").read_bytes()
