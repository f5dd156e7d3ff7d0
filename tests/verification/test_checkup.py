"""Backends are tried for real, and one that breaks, crashes or hangs costs a row, never the doctor."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.backends.base import Backend
from fer_deploy.backends.registry import backend_class
from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.verification.checkup import TrialResult, Trials, ask_driver_apart

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 1), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Two ONNX files without a graph, for runtimes that never get to look at them."""
    root = tmp_path / "bundle"
    root.mkdir()
    (root / "a.onnx").write_bytes(b"\x08\x08")
    (root / "b.onnx").write_bytes(b"\x08\x09")
    artefacts = (describe_file(root, "a.onnx", "onnx", "fp32", {}), describe_file(root, "b.onnx", "onnx", "int8", {}))
    Bundle(root, "test", "0" * 64, artefacts).save()
    return Bundle.load(root)


def tried(bundle: Bundle, name: str, limit_s: float = 60.0) -> list[TrialResult]:
    return list(Trials(bundle, IMAGES, limit_s=limit_s).backend(backend_class(name)))


def put_in_place(monkeypatch: pytest.MonkeyPatch, folder: Path, module: str, program: str) -> None:
    """Makes a runtime of the name that does what the program says, in place of the real one."""
    (folder / f"{module}.py").write_text(program)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, module, raising=False)


def test_openvino_really_runs(tiny_bundle: Bundle) -> None:
    said: list[str] = []
    rows = list(Trials(tiny_bundle, IMAGES, said.append).backend(backend_class("openvino")))
    fp32 = rows[0]
    assert (fp32.precision, fp32.effective, fp32.device, fp32.status, fp32.reason) == (
        "fp32",
        "fp32",
        "cpu",
        "ok",
        None,
    )
    assert fp32.importable
    assert fp32.version
    assert fp32.version in (fp32.runtime or "")
    with backend_class("openvino")(tiny_bundle) as backend:
        np.testing.assert_allclose(fp32.probabilities, backend.run(IMAGES), atol=1e-6)
    bf16 = next(row for row in rows if row.precision == "bf16")
    assert bf16.status in ("ok", "skipped")  # by what the CPU has
    assert (bf16.status == "ok") == (bf16.reason is None)
    assert said[0].startswith("openvino on cpu: fp32")


def test_a_device_that_is_not_here_is_one_row(tiny_bundle: Bundle) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    rows = tried(tiny_bundle, "onnx")
    assert next(row.precision for row in rows if row.device == "cpu") == "fp32"
    cuda = [row for row in rows if row.device == "cuda"]
    if cuda[0].status == "ok":
        pytest.skip("CUDA works here")
    assert len(cuda) == 1
    assert (cuda[0].precision, cuda[0].status, cuda[0].version) == (None, "skipped", onnxruntime.__version__)
    assert "cannot use cuda here" in (cuda[0].reason or "")


def test_what_is_not_installed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backend, "missing", classmethod(lambda cls: ("onnxruntime",)))
    (row,) = tried(bundle, "onnx")
    assert (row.precision, row.device, row.status, row.importable) == (None, None, "skipped", False)
    assert row.reason == (
        "What the onnx backend needs (onnxruntime) is not installed here. "
        "Install it with: pip install 'fer-deploy[onnx]' or pip install 'fer-deploy[gpu]'"
    )


def test_what_the_bundle_has_not(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backend, "missing", classmethod(lambda cls: ()))
    (row,) = tried(bundle, "keras")
    assert (row.status, row.reason) == ("skipped", "the bundle has no keras file in fp32")


def test_a_runtime_that_cannot_be_imported(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(monkeypatch, tmp_path, "onnxruntime", "raise ImportError('libcudart.so.12: cannot open\\nit')")
    (row,) = tried(bundle, "onnx")
    assert (row.precision, row.status, row.importable, row.version) == (None, "failed", False, None)
    assert row.reason == "it cannot be imported: ImportError: libcudart.so.12: cannot open it"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import ctypes; ctypes.string_at(0)", "importing it crashed (signal 11, SIGSEGV)"),
        ("import os; os.abort()", "importing it crashed (signal 6, SIGABRT)"),
        (
            "import os; print('out of luck', flush=True); os._exit(3)",
            "importing it ended with exit code 3: out of luck",
        ),
    ],
)
def test_a_runtime_that_takes_the_process_down(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    put_in_place(monkeypatch, tmp_path, "onnxruntime", program)
    (row,) = tried(bundle, "onnx")
    assert (row.status, row.importable, row.reason) == ("failed", False, reason)


def test_a_runtime_that_hangs(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(monkeypatch, tmp_path, "onnxruntime", "import time; time.sleep(60)")
    (row,) = tried(bundle, "onnx", limit_s=0.5)
    assert (row.status, row.reason) == ("failed", "importing it took longer than 1 s")


def test_the_other_precisions_are_tried_after_a_crash(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = """
import ctypes
__version__ = "1.2.3-rc"
class SessionOptions:
    pass
def InferenceSession(content, options, providers):
    if content == b"\\x08\\x08":
        ctypes.string_at(0)
    raise RuntimeError("no such\\noperator")
"""
    put_in_place(monkeypatch, tmp_path, "onnxruntime", program)
    monkeypatch.setattr(backend_class("onnx"), "devices", ("cpu",))
    fp32, int8 = tried(bundle, "onnx")
    assert (fp32.precision, fp32.status, fp32.importable, fp32.version) == ("fp32", "failed", True, "1.2.3")
    assert fp32.reason == "it crashed (signal 11, SIGSEGV)"
    assert (int8.precision, int8.status) == ("int8", "failed")
    assert int8.reason == "The onnx backend cannot load the model: RuntimeError: no such operator"


def test_a_changed_file_is_never_run(bundle: Bundle) -> None:
    (bundle.path / "a.onnx").write_bytes(b"\x08\x0a")
    only = replace(bundle, artefacts=bundle.artefacts[:1])
    rows = tried(only, "openvino")
    assert {row.status for row in rows} == {"failed"}
    assert all("not the file that the bundle's manifest names" in (row.reason or "") for row in rows)


def test_modules_in_the_working_folder_are_not_taken(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("import os; os.abort()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert "crashed" not in (ask_driver_apart()["reason"] or "")


def test_a_driver_that_does_not_answer() -> None:
    assert ask_driver_apart(limit_s=0.0)["reason"] == "asking the driver took longer than 0 s"
