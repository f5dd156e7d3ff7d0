"""``doctor`` tells what runs, what does not and why, and fails only for what is required."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from fer_deploy.backends.registry import BACKENDS
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.cli import app, main
from fer_deploy.data.probe import probe_images
from fer_deploy.errors import UsageError
from fer_deploy.verification import checkup
from fer_deploy.verification.checkup import TrialResult, Wanted, check_up, parse_wanted

KEYS = {"backend", "precision", "effective", "simulated", "device", "runtime", "agreement", "status", "reason"}


@pytest.fixture(autouse=True)
def one_backend(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries OpenVINO only: the others are tried in the diagnosis's own tests, and cost seconds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))
    monkeypatch.setattr(checkup, "BACKENDS", {"openvino": BACKENDS["openvino"]})


def doctor(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["doctor", *arguments], env={"COLUMNS": "80"})


def test_the_table(tiny_bundle: Bundle) -> None:
    done = doctor("--bundle", str(tiny_bundle.path), "--require", "openvino/fp32,openvino")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("CPU     ")
    assert "usable cores, class" in lines[0]
    assert lines[1].startswith("GPU     ")
    assert lines[2].startswith("Faces   centerface: ")
    assert lines[3].startswith("Faces   yunet: yunet is not here (")
    (row,) = [line for line in lines if line.startswith("openvino") and "yes, auto" in line]
    assert "fp32" in row
    assert any(line.startswith("auto takes openvino fp32 on cpu: nothing is verified") for line in lines)
    assert "no accuracy was measured" in done.stdout or "No self-test" in done.stdout


def test_json(tiny_bundle: Bundle) -> None:
    done = doctor(str(tiny_bundle.path), "--json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["schema"], found["missing"]) == (0, 1, [])
    assert {"cpu_class", "instructions", "usable_cores", "gpus", "driver", "gpu_reason"} <= found["machine"].keys()
    assert all(row.keys() >= KEYS for row in found["rows"])
    assert [row["status"] for row in found["rows"] if row["precision"] == "fp32"] == ["ok"]
    assert [row["precision"] for row in found["rows"] if row["auto"]] == ["fp32"]
    assert found["auto"]["backend"] == "openvino"
    assert list(found["detectors"]) == ["centerface", "yunet"]
    assert "fetch yunet" in found["detectors"]["yunet"]


def test_what_is_required_and_missing(tiny_bundle: Bundle) -> None:
    done = doctor("--bundle", str(tiny_bundle.path), "--require", "openvino/int8, onnx", "--json")
    assert done.exit_code == 1
    first, second = json.loads(done.stdout)["missing"]
    assert first.startswith("openvino/int8 is required: the bundle has no file for it in int8")
    assert second.startswith("onnx is required: ")
    assert f"fer-deploy: {first}\nfer-deploy: {second}\n" in done.stderr


def test_nonsense_is_refused_before_anything_is_tried(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for require, message in (("tflite", "There is no backend 'tflite'"), ("openvino/fp8", "has no precision 'fp8'")):
        monkeypatch.setattr(sys, "argv", ["fer-deploy", "doctor", "--require", require])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


def test_required_forms() -> None:
    assert parse_wanted("openvino/int8, keras,") == (Wanted("openvino", "int8"), Wanted("keras", None))
    assert parse_wanted("") == ()
    with pytest.raises(UsageError, match="has no precision ''"):
        parse_wanted("openvino/")


@pytest.fixture
def predictions(tiny_bundle: Bundle) -> np.ndarray:
    """What OpenVINO answers to the probe pictures."""
    (row, *_) = [r for r in check_up(tiny_bundle).checked if r.tried.precision == "fp32"]
    assert row.tried.probabilities is not None
    return row.tried.probabilities


def with_trials(monkeypatch: pytest.MonkeyPatch, *rows: TrialResult) -> None:
    monkeypatch.setattr(checkup.Trials, "all", lambda self: rows)
    monkeypatch.setattr(checkup, "read_outputs", lambda bundle: None)


def test_wrong_answers_are_a_failure(
    tiny_bundle: Bundle, predictions: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = TrialResult("keras", "fp32", "cpu", "fp32", importable=True, status="ok", probabilities=predictions)
    off = replace(good, backend="openvino", probabilities=np.roll(predictions, 1, axis=1))
    with_trials(monkeypatch, good, off)
    found = check_up(tiny_bundle)
    assert (found.reference, found.images) == ("keras", len(probe_images()))
    assert [checked.status for checked in found.checked] == ["ok", "failed"]
    assert "on the probe set is below" in (found.checked[1].reason or "")
    (line,) = found.lacking(parse_wanted("openvino,keras/fp32"))
    assert line.startswith("openvino is required: ")


def test_without_anything_to_compare_with(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with_trials(monkeypatch, TrialResult("keras", reason="not installed"))
    done = doctor("--bundle", str(tiny_bundle.path))
    assert "No self-test: the bundle holds no answers of Keras, and Keras does not run here" in done.stdout
    assert "keras: not installed" in done.stdout


def test_a_simulation_is_not_what_is_required(
    tiny_bundle: Bundle, predictions: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = TrialResult(
        "onnx", "int8-trt", "cpu", "int8", simulated=True, importable=True, status="ok", probabilities=predictions
    )
    with_trials(monkeypatch, row)
    done = doctor("--bundle", str(tiny_bundle.path), "--require", "onnx/int8-trt")
    assert any("int8-trt   simulated" in line for line in done.stdout.splitlines())
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (
        1,
        "fer-deploy: onnx/int8-trt is required: here it is a simulation only",
    )
