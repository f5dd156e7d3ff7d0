"""The runner on a GPU made of host memory: what it enqueues, keeps, frees and says. Real GPUs are in test_runner.py."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.backends.select import open_backend
from fer_deploy.backends.tensorrt import backend as module
from fer_deploy.backends.tensorrt.backend import TensorRtBackend
from fer_deploy.backends.tensorrt.cuda import Cuda, CudaDevice
from fer_deploy.backends.tensorrt.lanes import Runner
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import BackendError, ModelError

_spec = importlib.util.spec_from_file_location("pretend", Path(__file__).with_name("pretend.py"))
assert _spec is not None
assert _spec.loader is not None
pretend = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(pretend)
Runtime, pretend_flavour = pretend.Runtime, pretend.pretend_flavour

MAX_BATCH = 16
FUNCTIONS = ("cudaMalloc", "cudaHostAlloc", "cudaStreamCreateWithFlags", "cudaGraphInstantiate")
IMAGES = np.random.default_rng(0).integers(0, 256, (70, 48, 48, 1), dtype=np.uint8)


def predictions(pixels: np.ndarray) -> np.ndarray:
    """Made-up probabilities that depend on every pixel."""
    parts = pixels.reshape(len(pixels), 7 * 256 + 512).astype(np.float64)[:, : 7 * 256].reshape(len(pixels), 7, 256)
    sums = parts.sum(axis=2) + pixels.reshape(len(pixels), -1)[:, 7 * 256 :].sum(axis=1, keepdims=True) + 1
    return (sums / sums.sum(axis=1, keepdims=True)).astype(np.float32)


class PretendedCuda(Cuda):
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def gpu(self) -> CudaDevice:
        return CudaDevice("pretended", "sm86", "13.0")


@pytest.fixture
def gpu() -> Runtime:
    return Runtime()


@pytest.fixture
def make(gpu: Runtime, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TensorRtBackend]:
    def make(
        output: str = "probabilities", engines: tuple[bytes, ...] = (b"engine",), **options: Any
    ) -> TensorRtBackend:
        flavour = pretend_flavour(gpu, predictions, MAX_BATCH, output)
        monkeypatch.setattr(module, "import_flavour", lambda: flavour)
        monkeypatch.setattr(module, "Cuda", lambda: PretendedCuda(gpu))
        monkeypatch.setattr(module, "offered_engines", lambda *arguments: iter(engines))
        return TensorRtBackend(tiny_bundle, **options)

    return make


@pytest.fixture(params=[True, False], ids=["graph", "no graph"])
def backend(request: pytest.FixtureRequest, make: Callable[..., TensorRtBackend], gpu: Runtime) -> Iterator[Any]:
    with make(graph=request.param) as opened:
        yield opened
    assert (gpu.memory, gpu.streams, gpu.graphs, gpu.recording) == ({}, {}, {}, {})  # all of it given back
    assert request.param or not gpu.counts["graphs"]


@pytest.mark.parametrize("n", [1, 2, 3, 15, 16, 17, 32, 33, 70])
def test_answers_at_every_size(backend: TensorRtBackend, n: int) -> None:
    np.testing.assert_array_equal(backend.run(IMAGES[:n]), predictions(IMAGES[:n]))
    assert backend.gpu == "pretended"
    assert backend.runtime == "TensorRT 11.0"


@pytest.mark.parametrize("sizes", [[], [5], [1, 1], [16] * 4, [40, 3, 20], [1, 2, 3, 4, 5, 6, 7, 8], [70]])
def test_streams_in_order(backend: TensorRtBackend, sizes: list[int]) -> None:
    ends = np.cumsum(sizes, dtype=int)
    batches = [IMAGES[end - size : end][::-1] for size, end in zip(sizes, ends, strict=True)]
    found = list(backend.run_stream(iter(batches)))
    assert [len(one) for one in found] == sizes
    for one, batch in zip(found, batches, strict=True):
        np.testing.assert_array_equal(one, predictions(batch))


def test_two_batches_are_in_flight(backend: TensorRtBackend) -> None:
    taken = []

    def batches() -> Iterator[np.ndarray]:
        for i in range(5):
            taken.append(i)
            yield IMAGES[i : i + 1]

    stream = backend.run_stream(batches())
    next(stream)
    assert taken == [0, 1, 2]
    stream.close()  # what is in flight is waited for, and its lanes are used again
    np.testing.assert_array_equal(backend.run(IMAGES[:1]), predictions(IMAGES[:1]))


def test_lanes_are_used_again_and_old_ones_go(backend: TensorRtBackend, gpu: Runtime) -> None:
    for _ in range(20):
        backend.run(IMAGES[:4])
    assert len(gpu.streams) == 1
    assert gpu.counts in ({"graphs": 1, "launches": 20}, {"graphs": 0, "launches": 0})
    for _ in range(3):
        for n in (1, 2, 4, 8, 16):
            list(backend.run_stream([IMAGES[:n]] * 3))
    assert len(gpu.streams) <= 6
    assert len(gpu.memory) == 4 * len(gpu.streams)


def test_several_threads_at_once(backend: TensorRtBackend) -> None:
    def work(start: int) -> bool:
        mine = IMAGES[start : start + 20]
        streamed = np.concatenate(list(backend.run_stream([mine[:3], mine[3:]])))
        return bool((backend.run(mine) == predictions(mine)).all() and (streamed == predictions(mine)).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, list(range(0, 50, 5)) * 3))


def test_device_time_is_that_of_the_kernels_alone(backend: TensorRtBackend, gpu: Runtime) -> None:
    backend.run(IMAGES[:5])
    graphs = len(gpu.graphs)
    assert backend.device_seconds(5, 3) == [0.001] * 3  # one step of the three: no upload, no download
    assert (gpu.events, len(gpu.graphs), len(gpu.streams)) == ({}, graphs, 1)
    np.testing.assert_array_equal(backend.run(IMAGES[:5]), predictions(IMAGES[:5]))
    assert backend.device_seconds(MAX_BATCH + 1, 3) == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_failing_call_is_named_and_costs_no_memory(
    make: Callable[..., TensorRtBackend], gpu: Runtime, function: str
) -> None:
    with make() as backend:
        gpu.fail = function
        with pytest.raises(
            BackendError, match=f"{function} failed: cudaErrorMemoryAllocation: out of memory"
        ) as caught:
            backend.run(IMAGES[:2])
        assert "\n" not in str(caught.value)
        gpu.fail = ""
        np.testing.assert_array_equal(backend.run(IMAGES[:2]), predictions(IMAGES[:2]))
    assert (gpu.memory, gpu.streams, gpu.graphs) == ({}, {}, {})


def test_an_engine_of_another_network_is_refused(make: Callable[..., TensorRtBackend], gpu: Runtime) -> None:
    with pytest.raises(ModelError, match=r"gives logits float32 \(7,\); expected"):
        make(output="logits").open()
    with pytest.raises(BackendError, match=r"TensorRT 11\.0 does not take the engine"):
        Runner(pretend_flavour(gpu, predictions, 4), PretendedCuda(gpu), b"")


def test_names_of_precisions(tiny_bundle: Bundle) -> None:
    assert TensorRtBackend(tiny_bundle, "int8").precision == "int8-trt"
    with pytest.raises(BackendError, match="The trt backend has no precision bf16; it has: fp32, fp16, int8-trt"):
        open_backend(tiny_bundle, "trt", "bf16")


def test_a_refused_engine_is_told_and_another_is_taken(
    make: Callable[..., TensorRtBackend], caplog: pytest.LogCaptureFixture
) -> None:
    with make(engines=(b"", b"new")) as backend:
        np.testing.assert_array_equal(backend.run(IMAGES[:2]), predictions(IMAGES[:2]))
    assert caplog.messages == ["TensorRT 11.0 does not take the engine: no reason given; another one is taken"]
    with pytest.raises(BackendError, match="does not take the engine"):
        make(engines=(b"", b"")).open()
