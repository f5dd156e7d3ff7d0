"""The library against the bare runtime: the same file and settings, pairs of calls in turns.

The plugin times the library; the bare call is made and timed in each round's setup, right before it.
``extra_info`` holds its median and samples, and as ``over_bare_s`` the median of the pairs' differences.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_deploy import Classifier
from fer_deploy.backends.base import Backend
from fer_deploy.backends.openvino import shared_core
from fer_deploy.bundle.manifest import Bundle

Images = NDArray[np.uint8]
Bare = Callable[[Images], Any]


def in_pairs(benchmark: Any, library: Callable[[], Any], bare: Callable[[], Any], rounds: int) -> tuple[Any, Any]:
    """Runs both in turns; gives the last answers of the library and of the bare runtime."""
    seconds: list[float] = []
    prediction: list[Any] = [None]

    def setup() -> None:
        started = time.perf_counter()
        prediction[0] = bare()
        seconds.append(time.perf_counter() - started)

    found = benchmark.pedantic(library, setup=setup, rounds=rounds, warmup_rounds=rounds // 10)
    if benchmark.stats is not None:
        counted = seconds[-rounds:]
        over = statistics.median(a - b for a, b in zip(benchmark.stats.stats.data, counted, strict=True))
        benchmark.extra_info.update(bare_median_s=statistics.median(counted), over_bare_s=over, bare_s=counted)
    return found, prediction[0]


def bare_openvino(bundle: Bundle, precision: str, hint: str) -> Any:
    core = shared_core()
    settings = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": "f32"}
    return core.compile_model(core.read_model(bundle.read("onnx", precision)), "CPU", settings)


def bare_call(runtime: str, bundle: Bundle, backend: Backend) -> Bare:
    if runtime == "openvino":
        request = bare_openvino(bundle, backend.precision, "LATENCY").create_infer_request()

        def call(images: Images) -> Any:
            request.infer({0: images}, share_inputs=True)
            return request.get_output_tensor(0).data.copy()

        return call
    import onnxruntime

    from fer_deploy.system.machine import usable_cores

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    model = bundle.read("onnx", backend.precision)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["probabilities"], {"image": images})[0]


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("runtime", ["openvino", "onnx"])
def test_one_call(
    benchmark: Any,
    opened: Callable[[str, str], Backend],
    bundle: Bundle,
    noise: Images,
    runtime: str,
    precision: str,
    batch: int,
) -> None:
    backend, images = opened(runtime, precision), noise[:batch]
    bare = bare_call(runtime, bundle, backend)
    benchmark.group = "overhead of one call"
    ours, theirs = in_pairs(
        benchmark, lambda: backend.run(images), lambda: bare(images), rounds=1000 if batch == 1 else 100
    )
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_stream(
    benchmark: Any, opened: Callable[[str, str], Backend], bundle: Bundle, noise: Images, precision: str
) -> None:
    """Batches of 64 through all streams, beside OpenVINO's own queue."""
    import openvino

    backend, images, count = opened("openvino", precision), noise[:64], 16
    model = bare_openvino(bundle, precision, "THROUGHPUT")
    queue = openvino.AsyncInferQueue(model, 2 * model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    predictions: dict[int, Any] = {}
    queue.set_callback(lambda request, n: predictions.update({n: request.get_output_tensor(0).data.copy()}))

    def bare() -> Any:
        for n in range(count):
            queue.start_async({0: images}, n, share_inputs=True)
        queue.wait_all()
        return predictions[count - 1]

    benchmark.group = "overhead of a stream"
    ours, theirs = in_pairs(benchmark, lambda: list(backend.run_stream(images for _ in range(count))), bare, rounds=20)
    np.testing.assert_array_equal(ours[-1], theirs)


def test_api(benchmark: Any, opened: Callable[[str, str], Backend], bundle: Bundle, noise: Images) -> None:
    """One picture through ``Classifier.predict``, up to the probabilities."""
    backend, images = opened("openvino", "int8"), noise[:1]
    classifier, bare = Classifier(backend), bare_call("openvino", bundle, backend)
    benchmark.group = "overhead of the Python API"
    ours, theirs = in_pairs(
        benchmark, lambda: classifier.predict(images).probabilities, lambda: bare(images), rounds=1000
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
