"""What ``auto`` takes: the fastest that was verified on such a machine, and never anything that was not."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fer_deploy.backends import select
from fer_deploy.backends.base import Backend
from fer_deploy.backends.select import BackendChoice, choose, decide
from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.bundle.records import Record
from fer_deploy.bundle.store import keep
from fer_deploy.errors import UsageError

HERE, ELSEWHERE = "avx2", "amx"
GPU = "NVIDIA H200"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with an AVX2 CPU, one GPU, all runtimes, and records of this test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(select, "cpu_flags", lambda: {"avx2"})
    monkeypatch.setattr(select, "gpu_names", lambda: (GPU,))
    monkeypatch.setattr(Backend, "missing", classmethod(lambda cls: ()))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle of three files; nothing here runs them."""
    root = tmp_path / "bundle"
    root.mkdir()
    files = [("model.keras", "fp32"), ("model.onnx", "fp32"), ("model.int8.onnx", "int8")]
    for name, precision in files:
        (root / name).write_bytes(f"{name} {precision}".encode())
    artefacts = [describe_file(root, name, name.rpartition(".")[2], precision, {}) for name, precision in files]
    Bundle(root, "test", "0" * 64, tuple(artefacts)).save()
    return Bundle.load(root)


def with_records(bundle: Bundle, *changes: dict[str, Any]) -> Bundle:
    for change in changes:
        variant = {"backend": "openvino", "precision": "fp32", **change}
        artefact = bundle.find("keras" if variant["backend"] == "keras" else "onnx", variant["precision"])
        whole = Record(
            backend="openvino", precision="fp32", effective="fp32", simulated=False, device="cpu", runtime="R 1",
            machine=HERE, artefact_sha256=artefact.sha256 if artefact else bundle.artefacts[1].sha256,
            split="PrivateTest", n=3589, accuracy=0.68, drift_points=0.0, agreement=1.0, images_per_s=900.0,
            status="ok", reason="", date="2026-01-01",
        )  # fmt: skip
        keep(bundle, [dataclasses.replace(whole, **change)])
        bundle = Bundle.load(bundle.path)
    return bundle


INT8 = {"precision": "int8", "images_per_s": 4000.0}


def test_without_records_it_is_openvino_in_fp32(bundle: Bundle) -> None:
    found = decide(bundle)
    assert found.choice == ("openvino", "fp32", "cpu")
    assert "fer-deploy verify --record" in found.reason


def test_the_fastest_that_was_verified_here(bundle: Bundle) -> None:
    bundle = with_records(bundle, {}, INT8, {"backend": "onnx", "precision": "int8", "images_per_s": 5000.0})
    found = decide(bundle)
    assert found.choice == ("onnx", "int8", "cpu")
    assert found.reason == "the fastest of 3 verified on avx2 CPUs: 5,000 images/s, 68.00% on PrivateTest"


def test_what_was_named_stays(bundle: Bundle) -> None:
    bundle = with_records(bundle, {}, INT8, {"backend": "onnx", "images_per_s": 500.0})
    assert choose(bundle, backend="onnx") == ("onnx", "fp32", "cpu")
    assert choose(bundle, precision="fp32") == ("openvino", "fp32", "cpu")
    assert choose(bundle, backend="onnx", precision="int8") == ("onnx", "int8", "cpu")
    assert choose(bundle, "onnx", "fp16", "cuda") == ("onnx", "fp16", "cuda")
    assert choose(bundle, backend="keras") == ("keras", "fp32", "cpu")
    assert choose(bundle, device="cuda") == ("onnx", "fp32", "cuda")
    assert choose(bundle, backend="openvino", device="gpu") == ("openvino", "fp32", "gpu")  # opening it is an error


@pytest.mark.parametrize(
    "change",
    [
        {"status": "failed", "reason": "drift"},
        {"simulated": True},
        {"machine": ELSEWHERE, "precision": "fp32"},
        {"machine": "NVIDIA A100", "device": "cuda", "backend": "onnx"},
        {"artefact_sha256": "1" * 64},
        {"backend": "tflite"},
        {"device": "tpu"},
        {"precision": "fp8"},
    ],
)
def test_what_does_not_count(bundle: Bundle, change: dict[str, Any]) -> None:
    bundle = with_records(bundle, {}, {**INT8, "backend": "onnx", **change})
    assert choose(bundle) == ("openvino", "fp32", "cpu")


def test_passed_on_one_split_and_failed_on_another_is_failed(bundle: Bundle) -> None:
    bundle = with_records(bundle, {}, INT8, {**INT8, "split": "PublicTest", "status": "failed"})
    assert choose(bundle) == ("openvino", "fp32", "cpu")


def test_a_gpu_that_was_verified_is_taken_where_it_is(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = {"backend": "onnx", "device": "cuda", "machine": GPU, "images_per_s": 90_000.0}
    bundle = with_records(bundle, {}, gpu)
    assert choose(bundle) == ("onnx", "fp32", "cuda")
    assert choose(bundle, device="cpu") == ("openvino", "fp32", "cpu")
    monkeypatch.setattr(select, "gpu_names", lambda: ())
    assert choose(bundle) == ("openvino", "fp32", "cpu")


def test_what_is_not_installed_is_not_taken(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = with_records(bundle, {}, {**INT8, "backend": "onnx"})
    assert choose(bundle).backend == "onnx"
    monkeypatch.setattr(Backend, "missing", classmethod(lambda cls: ("x",) if cls.name == "onnx" else ()))
    assert choose(bundle) == ("openvino", "fp32", "cpu")


def test_int8_that_another_cpu_vouches_for(bundle: Bundle) -> None:
    vouched = with_records(bundle, {**INT8, "machine": ELSEWHERE})
    found = decide(vouched)
    assert found.choice == ("openvino", "int8", "cpu")
    assert "verified on amx" in found.reason
    assert choose(vouched, backend="onnx").precision == "fp32"
    assert choose(vouched, precision="fp32").precision == "fp32"
    contradicted = with_records(vouched, {**INT8, "machine": "avx512", "status": "failed"})
    assert choose(contradicted) == ("openvino", "fp32", "cpu")


def test_what_the_bundle_has_decides_too(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    keras_only = dataclasses.replace(bundle, artefacts=bundle.artefacts[:1])
    assert choose(keras_only) == ("keras", "fp32", "cpu")
    monkeypatch.setattr(Backend, "missing", classmethod(lambda cls: ("x",) if cls.name == "openvino" else ()))
    assert choose(bundle) == ("onnx", "fp32", "cpu")


def test_tensorrt_has_one_int8(bundle: Bundle) -> None:
    assert choose(bundle, "trt", "int8") == BackendChoice("trt", "int8-trt", "cuda")


def test_names_that_there_are_not(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="There is no backend 'tflite'; there are: keras, onnx, openvino"):
        choose(bundle, "tflite")


def test_deciding_takes_no_runtime_and_no_time(bundle: Bundle) -> None:
    with_records(bundle, {}, INT8, {"backend": "keras", "images_per_s": 9000.0})
    program = f"""
import sys
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.backends.select import choose
choose(Bundle.load({str(bundle.path)!r}))
print(*sorted({{"keras", "tensorflow", "onnxruntime", "openvino", "torch"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    loaded = Bundle.load(bundle.path)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        choose(loaded)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.05


def test_the_null_backend_is_for_measuring_only() -> None:
    with pytest.raises(UsageError, match="null backend computes nothing"):
        choose(Bundle.load(), "null")
