"""``fer-deploy verify``: what it prints, and the exit codes that a release script goes by."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.bundle.store import recorded
from fer_deploy.cli import main
from fer_deploy.data.convert import NamedImage, write_folder
from fer_deploy.data.probe import probe_images


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Command:
    """Runs the command line in this process, which has TensorFlow loaded already."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> Done:
        self.monkeypatch.setattr(sys, "argv", ["fer-deploy", "verify", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Done(code, *self.capsys.readouterr())


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn pictures as FER-2013, every class with some; how right the tiny model is does not matter."""
    folder = tmp_path_factory.mktemp("data") / "fer"
    images = probe_images()[..., 0]
    write_folder(
        folder, (NamedImage("PrivateTest", i % 7, f"PrivateTest_{i:05}", image) for i, image in enumerate(images))
    )
    return folder


FAST = ("--backend", "openvino", "--precision", "fp32")


def test_all_in_one_table(command: Command, tiny_bundle: Bundle, data: Path) -> None:
    done = command(tiny_bundle.path, "--data", data, *FAST, "--require", "onnx/fp32", "--target", 0)
    assert done.code == 0, done
    assert "Compared with Keras" in done.out
    assert "111 pictures of PrivateTest" in done.out
    assert "CPU class" in done.out
    assert "accuracy at least -0.50 % (target 0.00 % less 0.5)" in done.out
    assert "fp32 99.9 %, bf16 99.5 %, fp16 99.5 %, int8 98 %, int8-trt 97 %" in done.out
    assert "Passed: 3 forms" in done.out
    tables = done.out.partition("111 pictures")[0].splitlines()[:-1]
    assert max(map(len, tables)) <= 100
    assert [line.split()[:2] for line in tables[1:4]] == [["keras", "fp32"], ["onnx", "fp32"], ["openvino", "fp32"]]


def test_json(command: Command, tiny_bundle: Bundle, data: Path) -> None:
    done = command(tiny_bundle.path, "--data", data, *FAST, "--json")
    reported = json.loads(done.out)
    assert list(reported) == ["schema", "machine", "bundle", "data", "tta", "gate", "rows", "failures", "passed"]
    assert (reported["schema"], reported["tta"], reported["passed"], reported["failures"], done.code) == (
        1,
        None,
        True,
        [],
        0,
    )
    assert reported["data"] | {"split": "PrivateTest", "n": 111, "ground": "keras"} == reported["data"]
    assert reported["gate"] | {"target": None, "tolerance_points": 0.5, "max_drift_points": 0.5} == reported["gate"]
    keras, openvino = reported["rows"]
    assert (keras["backend"], keras["drift_points"], keras["agreement"]) == ("keras", 0, 1)
    assert (openvino["backend"], openvino["precision"], openvino["effective"]) == ("openvino", "fp32", "fp32")
    assert (openvino["simulated"], openvino["device"], openvino["mode"]) == (False, "cpu", "throughput")
    assert 0 < openvino["accuracy"] < 1


def test_a_missed_gate_is_exit_code_1(command: Command, tiny_bundle: Bundle, data: Path) -> None:
    done = command(tiny_bundle.path, "--data", data, *FAST, "--target", 100)
    assert done.code == 1
    failed = [line for line in done.out.splitlines() if line.startswith("FAILED ")]
    assert [line.split()[1] for line in failed if ": accuracy" in line] == ["keras/fp32:", "openvino/fp32:"]

    done = command(tiny_bundle.path, "--data", data, *FAST, "--target", 100, "--json")
    assert done.code == 1
    assert json.loads(done.out)["passed"] is False
    assert len(done.err.splitlines()) == 2
    assert command(tiny_bundle.path, "--data", data, *FAST, "--target", 100, "--tolerance", 100).code == 0


def test_what_is_required_and_not_there_is_exit_code_1(command: Command, tiny_bundle: Bundle) -> None:
    done = command(tiny_bundle.path, *FAST, "--require", "trt/int8")
    assert done.code == 1
    assert "FAILED trt/int8-trt is required and did not run: " in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "nowhere"], "no backend 'nowhere'"),
        (["--precision", "int2"], "no precision 'int2'"),
        (["--require", "onnx"], "no form 'onnx' to require"),
        (["--backend", "trt"], ""),
        (["--backend", "openvino", "--device", "cuda"], "no device cuda"),
        (["--target", "64", "--record"], "--target, --record: only with --data"),
        (["--data", "nowhere.zip", "--tolerance", "inf"], "--tolerance is inf, expected a number"),
        (["--data", "nowhere.zip"], "nowhere.zip does not exist"),
        (["--split", "training"], "--split"),
    ],
)
def test_what_cannot_be_carried_out_is_exit_code_2(
    command: Command, tiny_bundle: Bundle, arguments: list[str], message: str
) -> None:
    done = command(tiny_bundle.path, *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.out == ""


def test_a_damaged_bundle_is_exit_code_2(command: Command, tmp_path: Path) -> None:
    done = command(tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "is not a bundle" in done.err


def test_without_data_it_says_that_no_accuracy_was_measured(command: Command, tiny_bundle: Bundle) -> None:
    done = command(tiny_bundle.path, *FAST)
    assert done.code == 0, done
    assert "no accuracy was measured" in done.out
    assert "Limits of fp32: same top-1 at least" in done.out
    assert "%\nkeras" not in done.out
    reported = json.loads(command(tiny_bundle.path, *FAST, "--json").out)
    assert reported["data"]["split"] == "probe"
    assert {(row["accuracy"], row["ece"]) for row in reported["rows"]} == {(None, None)}


def test_record_and_report(command: Command, tiny_bundle: Bundle, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'fer-deploy[train]'")
    folder, report = tmp_path / "bundle", tmp_path / "report"
    shutil.copytree(tiny_bundle.path, folder)
    done = command(folder, "--data", data, *FAST, "--record", "--report", report)
    assert done.code == 0, done
    assert f"Recorded in {folder}" in done.err
    assert {(r.backend, r.split) for r in recorded(Bundle.load(folder))} >= {("openvino", "PrivateTest")}
    files = {path.name for path in report.iterdir()}
    images = {f"{name}.png" for name in ("accuracy", "reliability", "confusion_difference", "disagreements")}
    assert files == {"report.md", *images}
    text = (report / "report.md").read_text()
    assert "| openvino/fp32 | fp32 |" in text
    assert "| calibration error |" in text
    assert "not for publication" in text


def test_report_without_matplotlib_is_refused_first(
    command: Command, tiny_bundle: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = command(tiny_bundle.path, "--data", data, "--report", tmp_path / "report")
    assert done.code == 2
    assert "pip install 'fer-deploy[train]'" in done.err


def test_a_simulation_is_marked_and_the_table_stays_narrow(
    command: Command, tiny_bundle: Bundle, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle.path, folder)
    shutil.copy(folder / "model.onnx", folder / "model.int8-trt.onnx")
    new = describe_file(folder, "model.int8-trt.onnx", "onnx", "int8-trt", {})
    kept = tuple(artefact for artefact in tiny_bundle.artefacts if artefact.precision != "int8-trt")
    dataclasses.replace(tiny_bundle, path=folder, artefacts=(*kept, new)).save()
    done = command(folder, "--data", data, "--precision", "int8-trt", "--target", 100)
    assert done.code == 1
    (row,) = (line for line in done.out.splitlines() if line.startswith("trt "))
    reported = json.loads(command(folder, "--data", data, "--precision", "int8-trt", "--json").out)["rows"][-1]
    assert reported["simulated"] is ("TensorRT" not in reported["runtime"])
    assert ("simulated" in row, row.split()[-1]) == (reported["simulated"], "FAILED")
    assert len(row.rstrip()) <= 100


def test_two_looks_are_told_and_never_recorded(command: Command, tiny_bundle: Bundle, data: Path) -> None:
    once = json.loads(command(tiny_bundle.path, "--data", data, *FAST, "--json").out)
    twice = json.loads(command(tiny_bundle.path, "--data", data, *FAST, "--tta", "flip", "--json").out)
    assert (once["tta"], twice["tta"]) == (None, "flip")
    for row in twice["rows"]:  # beside Keras's own mean
        assert row["agreement"] == 1
        assert row["max_abs_difference"] < 1e-4
    assert twice["rows"][0]["ece"] != once["rows"][0]["ece"]
    assert (
        "--tta flip: every answer is the mean" in command(tiny_bundle.path, "--data", data, *FAST, "--tta", "flip").out
    )
    for options, reason in (
        (("--data", data, "--tta", "rotate"), "no test-time augmentation 'rotate'"),
        (("--data", data, "--tta", "flip", "--record"), "leave --record or --tta out"),
        (("--tta", "flip"), "--tta: only with --data"),
    ):
        done = command(tiny_bundle.path, *FAST, *options)
        assert done.code == 2
        assert reason in done.err
