"""The same promises for every backend, with the real runtimes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.backends.base import Backend
from fer_deploy.backends.onnxruntime import PROVIDERS
from fer_deploy.backends.registry import BACKENDS, backend_class
from fer_deploy.backends.select import open_backend
from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.errors import (
    BackendError,
    BundleError,
    MissingDependencyError,
    ModelError,
    UnavailableError,
    UsageError,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (70, 48, 48, 1), dtype=np.uint8)
MODULES = {"keras": "keras", "onnx": "onnxruntime", "openvino": "openvino", "trt": "cuda.bindings"}
WITHOUT_A_GPU = sorted(set(BACKENDS) - {"trt"})


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture(scope="module")
def reference(tiny_bundle: Bundle) -> np.ndarray:
    with open_backend(tiny_bundle, "keras") as backend:
        return backend.run(IMAGES)


@pytest.fixture(params=[*WITHOUT_A_GPU, pytest.param("trt", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest, tiny_bundle: Bundle) -> Iterator[Backend]:
    pytest.importorskip(MODULES[request.param])
    try:
        opened = open_backend(tiny_bundle, request.param)
    except (MissingDependencyError, UnavailableError) as reason:
        if request.param != "trt":
            raise
        pytest.skip(str(reason))
    with opened:
        yield opened


@pytest.fixture
def copy(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    shutil.copytree(tiny_bundle.path, tmp_path / "bundle")
    return replace(tiny_bundle, path=tmp_path / "bundle")


def test_all_agree_with_keras(backend: Backend, reference: np.ndarray) -> None:
    found = backend.run(IMAGES)
    assert found.dtype == np.float32
    assert found.shape == (70, 7)
    np.testing.assert_allclose(found, reference, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert len(set(reference.argmax(axis=1).tolist())) > 1


@pytest.mark.parametrize("n", [1, 2, 37])
def test_the_size_of_a_batch_changes_nothing(backend: Backend, reference: np.ndarray, n: int) -> None:
    np.testing.assert_allclose(backend.run(IMAGES[:n]), reference[:n], atol=1e-5)


@pytest.mark.parametrize("sizes", [[], [5], [1, 1], [64, 6], [7] * 10, [30, 1, 30, 1, 8]])
def test_a_stream_gives_what_single_runs_give(backend: Backend, reference: np.ndarray, sizes: list[int]) -> None:
    ends = np.cumsum(sizes, dtype=int)
    batches = [IMAGES[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    predictions = list(backend.run_stream(iter(batches)))
    assert [len(prediction) for prediction in predictions] == sizes
    for prediction, end in zip(predictions, ends, strict=True):
        np.testing.assert_allclose(prediction, reference[end - len(prediction) : end], atol=1e-5)


def test_answers_are_the_callers_own(backend: Backend) -> None:
    first = backend.run(IMAGES[:3])
    kept = first.copy()
    backend.run(IMAGES[3:6])
    np.testing.assert_array_equal(first, kept)
    predictions = list(backend.run_stream(IMAGES[i : i + 1] for i in range(20)))
    np.testing.assert_allclose(np.concatenate(predictions), backend.run(IMAGES[:20]), atol=1e-5)


def test_arrays_need_not_be_contiguous(backend: Backend, reference: np.ndarray) -> None:
    np.testing.assert_allclose(backend.run(IMAGES[::-2]), reference[::-2], atol=1e-5)
    streamed = list(backend.run_stream([IMAGES[::7], IMAGES[::-9]]))
    np.testing.assert_allclose(streamed[1], reference[::-9], atol=1e-5)


def test_several_threads_at_once(backend: Backend, reference: np.ndarray) -> None:
    def work(start: int) -> bool:
        mine = slice(start, start + 10)
        alone = backend.run(IMAGES[mine])
        streamed = np.concatenate(list(backend.run_stream([IMAGES[mine][:4], IMAGES[mine][4:]])))
        return np.allclose(alone, reference[mine], atol=1e-5) and np.allclose(streamed, reference[mine], atol=1e-5)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, list(range(0, 60, 3)) * 2))


def test_a_stream_may_be_left_in_the_middle(backend: Backend) -> None:
    stream = backend.run_stream(IMAGES[i : i + 1] for i in range(50))
    next(stream)
    stream.close()
    assert backend.run(IMAGES[:1]).shape == (1, 7)


def test_a_failing_source_of_batches_is_passed_on(backend: Backend) -> None:
    def batches() -> Iterator[np.ndarray]:
        yield from (IMAGES[:2] for _ in range(5))
        raise LookupError("the camera is gone")

    with pytest.raises(LookupError, match="camera"):
        list(backend.run_stream(batches()))


@pytest.mark.parametrize(
    "wrong",
    [
        IMAGES.astype(np.float32),
        IMAGES[:0],
        IMAGES[0],
        IMAGES[..., 0],
        np.zeros((2, 48, 48, 3), np.uint8),
        [IMAGES[0]],
        None,
    ],
)
def test_a_batch_that_breaks_the_contract(backend: Backend, wrong: object) -> None:
    with pytest.raises(BackendError, match="must be uint8"):
        backend.run(wrong)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="must be uint8"):
        list(backend.run_stream([IMAGES[:1], wrong, IMAGES[:1]]))  # type: ignore[list-item]


def test_life_cycle(backend: Backend) -> None:
    before = backend.run(IMAGES[:2])
    assert backend.open() is backend
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="not open"):
        backend.run(IMAGES[:2])
    backend.open()
    np.testing.assert_allclose(backend.run(IMAGES[:2]), before, atol=1e-6)


def test_what_is_in_use_is_told(backend: Backend) -> None:
    assert backend.effective == "fp32"
    assert backend.device == ("cuda" if backend.name == "trt" else "cpu")
    assert any(character.isdigit() for character in backend.runtime)


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_what_a_backend_has_not(tiny_bundle: Bundle, name: str) -> None:
    with pytest.raises(BackendError, match="has no precision fp8"):
        open_backend(tiny_bundle, name, precision="fp8")
    with pytest.raises(BackendError, match="has no device tpu"):
        open_backend(tiny_bundle, name, device="tpu")


def test_a_precision_that_the_bundle_has_not(tiny_bundle: Bundle) -> None:
    for name in ("onnx", "openvino"):
        with pytest.raises(BundleError, match="no onnx model in int8; it has: "):
            open_backend(tiny_bundle, name, precision="int8")


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_fall_back_to_the_cpu_is_an_error(
    tiny_bundle: Bundle, device: str, capfd: pytest.CaptureFixture[str]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    try:
        open_backend(tiny_bundle, "onnx", device=device).close()
    except UnavailableError as error:
        reason = str(error)
    else:
        pytest.skip(f"{device} works here")
    assert f"The onnx backend cannot use {device} here: " in reason
    if PROVIDERS[device] in onnxruntime.get_available_providers():
        assert re.search(r"needs lib\w+\.so\S*\. pip install|no NVIDIA driver|driver", reason)
    else:
        assert f"was built without {PROVIDERS[device]}. pip install 'fer-deploy[gpu]' without" in reason
    assert "\n" not in reason
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", WITHOUT_A_GPU)
def test_a_damaged_model_is_refused(copy: Bundle, name: str) -> None:
    artefact = copy.find("keras" if name == "keras" else "onnx")
    assert artefact is not None
    path = copy.path / artefact.file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    for damaged in (content, content[:-10], b""):
        path.write_bytes(damaged)
        with pytest.raises(BundleError, match="not the file that the bundle's manifest names"):
            open_backend(copy, name)
    path.unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        open_backend(copy, name)


@pytest.mark.parametrize("name", WITHOUT_A_GPU)
def test_a_file_that_is_no_model_is_one_line(copy: Bundle, name: str) -> None:
    file = "broken.keras" if name == "keras" else "broken.onnx"
    (copy.path / file).write_bytes(b"no model\n" * 50)
    bundle = replace(copy, artefacts=(describe_file(copy.path, file, file.split(".")[1], "fp32", {}),))
    with pytest.raises(ModelError, match=r"broken\.(keras is not a Keras file|onnx is not an ONNX model)") as caught:
        open_backend(bundle, name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_what_a_runtime_refuses_is_one_line(copy: Bundle, name: str) -> None:
    (copy.path / "empty.onnx").write_bytes(b"\x08\x08")  # an ONNX file without a graph
    bundle = replace(copy, artefacts=(describe_file(copy.path, "empty.onnx", "onnx", "fp32", {}),))
    with pytest.raises(BackendError, match=f"The {name} backend cannot load the model") as caught:
        open_backend(bundle, name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_model_of_another_shape_is_refused(copy: Bundle, name: str) -> None:
    onnx = pytest.importorskip("onnx")
    given = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3])
    wanted = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 3])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "other", [given], [wanted])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    (copy.path / "other.onnx").write_bytes(model.SerializeToString())
    bundle = replace(copy, artefacts=(describe_file(copy.path, "other.onnx", "onnx", "fp32", {}),))
    with pytest.raises(ModelError, match=r"takes x float32 \(3,\).*expected image uint8 \(48, 48, 1\)"):
        open_backend(bundle, name)


@pytest.mark.parametrize(
    ("name", "blocked", "install"),
    [
        ("keras", "keras", "pip install 'fer-deploy[export]'"),
        ("keras", "tensorflow", "pip install 'fer-deploy[export]'"),
        ("onnx", "onnxruntime", "pip install 'fer-deploy[onnx]' or pip install 'fer-deploy[gpu]'"),
        ("openvino", "openvino", "pip install 'fer-deploy'"),
        ("trt", "tensorrt", "pip install 'fer-deploy[tensorrt]' or pip install 'fer-deploy[rtx]'"),
    ],
)
def test_a_runtime_that_is_not_installed(tiny_bundle: Bundle, name: str, blocked: str, install: str) -> None:
    program = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith({blocked!r}):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from fer_deploy import Bundle, FerDeployError
from fer_deploy.backends.select import open_backend
try:
    open_backend(Bundle.load({str(tiny_bundle.path)!r}), {name!r})
except FerDeployError as error:
    print(f"{{type(error).__name__}}: {{error}}")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    what = f"What the {name} backend needs ({blocked}) is not installed here. Install it with: {install}"
    assert done.stdout == f"MissingDependencyError: {what}\n"


def test_keras_says_nothing_on_stderr(tiny_bundle: Bundle) -> None:
    pytest.importorskip("tensorflow")
    program = f"""
from fer_deploy import Bundle
from fer_deploy.backends.select import open_backend
open_backend(Bundle.load({str(tiny_bundle.path)!r}), "keras", threads=1).close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_importing_a_backend_imports_no_runtime() -> None:
    program = """
import sys
from fer_deploy.backends.onnxruntime import PROVIDERS
from fer_deploy.backends.registry import BACKENDS, backend_class
for name in BACKENDS:
    backend_class(name)
print(*sorted({"keras", "tensorflow", "onnxruntime", "openvino", "tensorrt", "torch", "PIL"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_backend_class_knows_only_ours() -> None:
    assert backend_class("openvino").name == "openvino"
    with pytest.raises(UsageError, match="There is no backend 'Openvino'"):
        backend_class("Openvino")
