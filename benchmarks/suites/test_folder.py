"""A folder of pictures to CSV, beside its two limits: decoding alone on the same cores, and the model alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.backends.base import Backend
from fer_deploy.images.sources import Sources
from fer_deploy.inference.run import Summary, run
from fer_deploy.inference.sinks.text import table_sink

BATCH = 64
COUNTS = {"crops": 10_000, "photos": 1_000}
SHORT = 100  # pictures where nothing is measured


@pytest.fixture(scope="module", params=COUNTS)
def folder(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    photo: Callable[[int, int], bytes],
    crop: bytes,
) -> Path:
    """Faces of 48x48 as PNG, or photos of 640x480 as JPEG."""
    content, suffix = (crop, "png") if request.param == "crops" else (photo(640, 480), "jpg")
    path = tmp_path_factory.mktemp(request.param)
    short = request.config.getoption("benchmark_disable")
    for n in range(SHORT if short else COUNTS[request.param]):
        (path / f"{n:06}.{suffix}").write_bytes(content)
    return path


def measure(benchmark: Any, folder: Path, call: Callable[[], Any]) -> None:
    count = sum(1 for _ in folder.iterdir())
    benchmark.group = f"folder of {folder.name.rstrip('0123456789')}"
    benchmark.extra_info["images"] = count
    assert benchmark.pedantic(call, rounds=5, warmup_rounds=1) == count


def test_to_csv(benchmark: Any, folder: Path, opened: Callable[[str, str], Backend], tmp_path: Path) -> None:
    backend = opened("openvino", "int8")

    def call() -> int:
        summary = Summary(backend)
        run(Sources([folder]), backend, [table_sink(str(tmp_path / "out.csv"), overwrite=True)], summary, BATCH)
        return sum(summary.emotions.values())

    measure(benchmark, folder, call)


def test_decoding_alone(benchmark: Any, folder: Path) -> None:
    def call() -> int:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            return sum(1 for _ in pool.map(lambda source: source.read(), Sources([folder]), chunksize=BATCH))

    measure(benchmark, folder, call)


def test_model_alone(benchmark: Any, folder: Path, opened: Callable[[str, str], Backend]) -> None:
    backend = opened("openvino", "int8")
    batch = np.random.default_rng(0).integers(0, 256, (BATCH, 48, 48, 1), dtype=np.uint8)
    count = sum(1 for _ in folder.iterdir())
    sizes = [BATCH] * (count // BATCH) + [count % BATCH] * bool(count % BATCH)
    measure(benchmark, folder, lambda: sum(map(len, backend.run_stream(batch[:size] for size in sizes))))
