"""Backend x precision x batch: one call, synchronous, and a stream as the pipeline makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_deploy.backends.base import Backend

VARIANTS = (
    *(("openvino", precision) for precision in ("fp32", "bf16", "int8")),
    *(("onnx", precision) for precision in ("fp32", "int8")),
    ("keras", "fp32"),
    ("trt", "fp16"),
    ("trt", "int8-trt"),
)
STREAMED = 8  # batches in a stream


@pytest.fixture(params=VARIANTS, ids="-".join)
def backend(request: pytest.FixtureRequest, benchmark: Any, opened: Callable[[str, str], Backend]) -> Backend:
    """Opens one form after the other; skips what cannot run here."""
    backend = opened(*request.param)
    benchmark.extra_info.update(runtime=backend.runtime, effective=backend.effective)
    return backend


@pytest.mark.parametrize("batch", [1, 8, 64, 256])
def test_call(benchmark: Any, backend: Backend, noise: NDArray[np.uint8], batch: int) -> None:
    benchmark.group = f"one call, batch {batch}"
    benchmark.extra_info["images"] = batch
    assert benchmark(backend.run, noise[:batch]).shape == (batch, 7)


@pytest.mark.parametrize("batch", [8, 64])
def test_stream(benchmark: Any, backend: Backend, noise: NDArray[np.uint8], batch: int) -> None:
    benchmark.group = f"stream of {STREAMED} batches of {batch}"
    benchmark.extra_info["images"] = STREAMED * batch
    predictions = benchmark(lambda: list(backend.run_stream(noise[:batch] for _ in range(STREAMED))))
    assert sum(map(len, predictions)) == STREAMED * batch
