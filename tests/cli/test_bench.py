"""``fer-deploy bench``: tables, JSON, and the exit codes that CI goes by. No figure here is held to a time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fer_deploy.bundle.manifest import Bundle
from fer_deploy.cli import main
from fer_deploy.system.machine import machine_info

FAST = ("--duration", "0.05", "--batch", "1,3")


class Done(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["fer-deploy", "bench", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Done(code, *capsys.readouterr())

    return run


def result(speed: float = 1000.0, machine: str | None = None, **other: Any) -> dict[str, Any]:
    here = machine_info()["cpu_class"]
    row = {
        **{"backend": "null", "precision": "fp32", "device": "cpu", "machine": machine or here, "graph": None},
        **{"mode": "throughput", "batch": 1, "images_per_s": speed, "status": "ok", **other},
    }
    return {"schema": 1, "machine": {"cpu_class": machine or here}, "rows": [row]}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, *arguments: Any, **other: Any) -> Path:
        (tmp_path / name).write_text(json.dumps(result(*arguments, **other)))
        return tmp_path / name

    return write


def test_tables_and_files(command: Command, tiny_bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("matplotlib")
    output = tmp_path / "x.json"
    done = command("default", "--backend", "onnx,null", "--precision", "fp32,int8", *FAST, "--output", output)
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.out.partition("default: CPU class")[0].splitlines())) <= 100
    assert "x Keras, x ORT: against Keras and ONNX Runtime fp32, each at its best batch" in done.out
    assert f"CPU class {machine_info()['cpu_class']}" in done.out
    assert done.out.count("fastest") == 1
    reported = json.loads(output.read_text())
    assert list(reported) == ["schema", "machine", "bundle", "settings", "rows"]
    assert [row["backend"] for row in reported["rows"]] == ["onnx"] * 8 + ["null"] * 4
    onnx = [row for row in reported["rows"] if row["backend"] == "onnx"]
    assert max(row["speed_up_over_onnx_fp32"] for row in onnx if row["precision"] == "fp32") == 1
    assert all(row["accuracy"] and row["samples_s"] for row in onnx)

    rerun = command("--backend", "null", *FAST, "--baseline", output, "--max-regression", "1e9")
    assert rerun.code == 0
    assert "not compared, since it did not run: onnx/fp32 on cpu, batch 1, latency" in rerun.err


def test_json_on_stdout(command: Command) -> None:
    done = command("--backend", "null", *FAST, "--mode", "latency", "--json")
    assert done.code == 0
    reported = json.loads(done.out)
    assert {row["mode"] for row in reported["rows"]} == {"latency"}
    assert reported["settings"] | {"batches": [1, 3], "duration_s": 0.05} == reported["settings"]


def test_a_plot(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "x.png"
    done = command("--backend", "openvino", "--precision", "int8", *FAST, "--mode", "throughput", "--plot", path)
    assert done.code == 0, done
    assert path.read_bytes().startswith(b"\x89PNG")


def test_tensorrt_where_it_is_not(command: Command) -> None:
    done = command("--backend", "trt", *FAST)
    if done.code == 0:
        pytest.skip("TensorRT runs here")
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("fer-deploy: ")
    assert "trt backend" in done.err


@pytest.mark.gpu
def test_tensorrt_where_it_is(command: Command) -> None:
    done = command("--backend", "trt", "--precision", "fp16", "--duration", "0.5", "--batch", "1,64", "--json")
    if done.code == 2:
        pytest.skip(done.err)
    rows = json.loads(done.out)["rows"]
    assert [row["graph"] for row in rows] == [True] * 4 + [False] * 4
    for row in (row for row in rows if row["mode"] == "latency"):
        assert 0 < row["device_p50_s"] < row["latency_p50_s"]  # without the copies


def test_skipped_is_told_and_required_is_exit_code_1(command: Command, tiny_bundle: Bundle) -> None:
    done = command(tiny_bundle.path, "--backend", "null", *FAST, "--require", "openvino/int8")
    assert done.code == 1
    assert "skipped openvino/int8: the bundle has no int8 onnx file" in done.out
    assert "FAILED openvino/int8 is required and did not run: " in done.out
    done = command(tiny_bundle.path, "--precision", "fp32,int8", "--backend", "openvino,null", *FAST)
    assert done.code == 0, done
    assert "skipped openvino/int8: the bundle has no int8 onnx file" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "nowhere"], "no backend 'nowhere'; there are: keras, onnx, openvino, trt, null"),
        (["--precision", "int2"], "no precision 'int2'"),
        (["--backend", "openvino", "--precision", "fp32", "--device", "cuda"], "no device cuda"),
        (["--batch", "1,x"], "--batch is '1,x'"),
        (["--batch", "0"], "--batch is '0'"),
        (["--max-regression", "10"], "--max-regression needs --baseline or --compare"),
        (["--baseline", "nowhere.json"], "nowhere.json cannot be read"),
        (["--output", "nowhere/x.json"], "there is no folder nowhere"),
        (["--output", "."], "it is a folder"),
        (["--tune", "--mode", "latency"], "--mode: not with --tune"),
        (["--plot", "x.txt"], "a plot's name ends in .png"),
        (["--plot", "x.png", "--backend", "null"], "No accuracy is recorded"),
        (["--compare", "a.json", "b.json", "--plot", "x.png"], "--plot: not with --compare"),
        (["nowhere/"], "nowhere is not a bundle"),
    ],
)
def test_what_cannot_be_carried_out_is_exit_code_2(command: Command, arguments: list[str], message: str) -> None:
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    done = command(*arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_a_baseline_decides_the_exit_code(command: Command, write: Callable[..., Path]) -> None:
    measure = ("--backend", "null", "--mode", "throughput", "--duration", "0.05", "--batch", "1")
    assert command(*measure, "--baseline", write("slow.json", 1e-3)).code == 0
    done = command(*measure, "--baseline", write("fast.json", 1e15))
    assert done.code == 1
    assert done.out.count("FAILED null/fp32 on cpu, batch 1, throughput: ") == 1
    assert "at most 10 % are allowed" in done.out
    assert command(*measure, "--baseline", write("fast.json", 1e15), "--max-regression", "100").code == 0
    done = command(*measure, "--baseline", write("other.json", machine="another"))
    assert (done.code, done.out) == (2, "")
    assert "measured on another" in done.err


def test_compare(command: Command, write: Callable[..., Path]) -> None:
    old, new = write("old.json", 1000.0), write("new.json", 850.0)
    done = command("--compare", old, new)
    assert done.code == 0
    assert "0.850" in done.out
    assert command("--compare", old, new, "--max-regression", "20").code == 0
    done = command("--compare", old, new, "--max-regression", "10", "--json")
    assert done.code == 1
    assert json.loads(done.out)["rows"][0]["ratio"] == 0.85
    assert done.err.count("15.0 % worse") == 1
    assert command("--compare", new, old, "--max-regression", "10").code == 0
    done = command("--compare", old, write("amx.json", machine="another"))
    assert (done.code, done.out) == (2, "")
    assert "cannot be compared" in done.err
