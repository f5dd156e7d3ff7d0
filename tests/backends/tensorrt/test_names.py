"""Our code uses only names that TensorRT has; tests/tools/tensorrt_names.py --download asks TensorRT 10 and 11 too."""

from __future__ import annotations

import ast
import importlib.util
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[2] / "tools/tensorrt_names.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tensorrt_names", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_name_is_one_of_rtx(tool: ModuleType) -> None:
    runtimes = tool.installed()
    if not runtimes:
        pytest.skip("TensorRT for RTX is not installed: pip install 'fer-deploy[rtx]'")
    assert list(tool.missing(tool.FILES, runtimes)) == []


def test_every_function_is_one_of_cuda(tool: ModuleType) -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    for path in tool.FILES:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        words = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        words |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        for word in words:
            if word.startswith("cuda") and word.isidentifier() and word not in ("cuda", "cuda_graph_strategy"):
                known = (runtime, runtime.cudaError_t, runtime.cudaMemcpyKind, runtime.cudaStreamCaptureMode)
                assert any(hasattr(place, word) for place in known), f"{path.name}: {word}"


def test_what_is_collected(tool: ModuleType) -> None:
    used = set().union(*(tool.used_names(path.read_text(encoding="utf-8")) for path in tool.FILES))
    assert {
        "BuilderFlag", "TF32", "Runtime", "deserialize_cuda_engine", "execute_async_v3", "set_tensor_address",
        "serialize", "STRONGLY_TYPED", "step_complete", "get_engine_validity", "num_io_tensors", "OnnxParser", "desc",
        "INPUT",
    } <= used  # fmt: skip
    assert not {"call", "cudaMalloc", "log_severity_level", "report"} & used


def test_a_misspelt_name_is_found(tool: ModuleType, tmp_path: Path) -> None:
    source = (
        "def f(trt, flavour, context):\n    trt.Builder()\n    flavour.trt.Bilder(1)[0].x\n    context.execute_v4(3)\n"
    )
    (tmp_path / "lanes.py").write_text(source)
    (tmp_path / "flavour.py").write_text("import x\ntrt.ComputeCapability.SM86\ntrt.Nowhere\n")
    files = [tmp_path / "lanes.py", tmp_path / "flavour.py"]
    known = {"ten": {"Builder", "x"}.__contains__, "rtx": {"Builder", "x", "ComputeCapability", "SM86"}.__contains__}
    assert list(tool.missing(files, known)) == [
        "lanes.py:3: Bilder is not in ten, rtx",
        "lanes.py:4: execute_v4 is not in ten, rtx",
        "flavour.py:3: Nowhere is not in ten, rtx",
    ]


def test_looking_into_a_wheel(tool: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "tensorrt_cu13_bindings-11.0-cp311.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tensorrt_bindings/tensorrt.so", b"\x7fELF\0Builder\0SHAPE_INPUT\0parse(self: Parser)\n\0")
        wheel.writestr("tensorrt_bindings/__init__.py", "def nptype(kind): ...\n")
    has = tool.names_of_wheel(path)
    assert all(map(has, ("Builder", "INPUT", "parse", "nptype")))
    assert not any(map(has, ("Build", "INPU", "pars", "ptype")))


def test_the_tool_fails_where_a_name_is_missing(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tool, "installed", dict)
    assert tool.main([]) == 2
    path = tmp_path / "tensorrt_cu13_bindings-11.0-cp311.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tensorrt.so", b"\0Builder\0")
    assert tool.main([str(path)]) == 1
    assert "lanes.py" in capsys.readouterr().out
    assert sys.modules.get("tensorrt") is None
