"""Execution on a GPU: answers, CUDA graphs, memory, times. Skipped with the reason where there is none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.backends.select import open_backend
from fer_deploy.backends.tensorrt.backend import TensorRtBackend
from fer_deploy.backends.tensorrt.builder import BuildOptions
from fer_deploy.backends.tensorrt.cuda import Cuda
from fer_deploy.backends.tensorrt.flavour import import_flavour
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import MissingDependencyError, UnavailableError

pytestmark = pytest.mark.gpu
IMAGES = np.random.default_rng(0).integers(0, 256, (70, 48, 48, 1), dtype=np.uint8)
AGREEMENT = {"fp32": 0.999, "fp16": 0.995, "int8-trt": 0.97}


@pytest.fixture(autouse=True)
def cuda(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Cuda:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "engines"))
    try:
        import_flavour()
        found = Cuda()
        found.gpu()
    except (MissingDependencyError, UnavailableError) as reason:
        pytest.skip(str(reason))
    return found


@pytest.fixture
def backend(trt_bundle: Bundle) -> Iterator[TensorRtBackend]:
    with TensorRtBackend(trt_bundle, "fp16", options=BuildOptions(opt_batch=8, max_batch=32)) as opened:
        yield opened


@pytest.mark.parametrize("graph", [True, False])
def test_answers_are_those_of_onnx_runtime(trt_bundle: Bundle, graph: bool) -> None:
    with open_backend(trt_bundle, "onnx") as reference:
        expected = reference.run(IMAGES)
    with TensorRtBackend(trt_bundle, graph=graph) as backend:
        np.testing.assert_allclose(backend.run(IMAGES), expected, atol=1e-4)
        for n in (1, 2, 3, 64):
            np.testing.assert_allclose(backend.run(IMAGES[:n]), expected[:n], atol=1e-4)


def test_a_graph_gives_what_single_calls_give(trt_bundle: Bundle) -> None:
    with TensorRtBackend(trt_bundle, "fp16") as graphs, TensorRtBackend(trt_bundle, "fp16", graph=False) as plain:
        for n in (1, 7, 64):
            np.testing.assert_allclose(graphs.run(IMAGES[:n]), plain.run(IMAGES[:n]), atol=1e-3)


def test_a_batch_larger_than_the_profile_is_split(backend: TensorRtBackend) -> None:
    whole = backend.run(IMAGES)
    np.testing.assert_allclose(whole, np.concatenate([backend.run(p) for p in np.split(IMAGES, 7)]), atol=1e-3)
    streamed = list(backend.run_stream([IMAGES, IMAGES[:3], IMAGES[:40]]))
    assert [len(predictions) for predictions in streamed] == [70, 3, 40]
    np.testing.assert_allclose(streamed[2], whole[:40], atol=1e-3)


def test_memory_is_given_back(trt_bundle: Bundle, cuda: Cuda) -> None:
    def use() -> int:
        with TensorRtBackend(trt_bundle, "fp16") as backend:
            for n in (1, 2, 4, 8, 16, 32, 64):
                backend.run(IMAGES[:n])
        return int(cuda.call("cudaMemGetInfo")[0])

    use()  # what the runtime itself keeps
    before = use()
    for _ in range(3):
        after = use()
    assert before - after < 32 << 20


def test_times_are_plausible(backend: TensorRtBackend) -> None:
    for _ in range(10):
        backend.run(IMAGES[:1])
    started = time.perf_counter()
    for _ in range(100):
        backend.run(IMAGES[:1])
    assert (time.perf_counter() - started) / 100 < 0.05
    assert "Half" in backend.listing() or "half" in backend.listing().lower()


@pytest.mark.fer2013
@pytest.mark.parametrize("precision", AGREEMENT)
def test_accuracy_of_the_shipped_model(fer2013_path: Path, precision: str) -> None:
    from fer_deploy.data.fer2013_reader import load_fer2013

    bundle = Bundle.load()
    if bundle.find("onnx", precision) is None:
        pytest.skip(f"the default bundle has no {precision}")
    images = load_fer2013(fer2013_path).partition("PublicTest").images[..., None]
    with open_backend(bundle, "openvino") as reference, open_backend(bundle, "trt", precision) as backend:
        same = np.concatenate(list(backend.run_stream([images]))).argmax(1) == reference.run(images).argmax(1)
    assert same.mean() >= AGREEMENT[precision]
