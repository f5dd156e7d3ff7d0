"""``fer-deploy export`` as a user meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fer_deploy
from fer_deploy.bundle.manifest import Bundle

for package in ("tensorflow", "tf2onnx", "onnx", "onnxslim"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'fer-deploy[export]'")


def fer_deploy_export(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in a process of its own."""
    code = "from fer_deploy.cli import main; main()"
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL")
    }
    return subprocess.run(
        [sys.executable, "-c", code, "export", *map(str, arguments)],
        env={**inherited, "PYTHONPATH": str(Path(fer_deploy.__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
    )


def test_tables_on_stdout_and_only_progress_on_stderr(tiny_model_path: Path, tmp_path: Path) -> None:
    """Without TensorFlow's noise, and whatever backend the model was trained on."""
    output = tmp_path / "emotions"
    done = fer_deploy_export(tiny_model_path, "--output", output, KERAS_BACKEND="torch")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "Left out: int8, int8-trt. INT8 needs Training pictures to calibrate with: "
        "give FER-2013 with --calibration or --data",
        "Loading TensorFlow",
        f"Reading {tiny_model_path}",
        "Converting to ONNX",
        "Converting to fp16",
        "Comparing with Keras: built-in probe set, 111 pictures",
    ]
    for text in ("Bundle emotions", "model.onnx", "Compared with Keras", "OpenVINO", "100.00%", f"Written: {output}"):
        assert text in done.stdout
    assert Bundle.load(output).name == "emotions"


def test_json(tiny_model_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    done = fer_deploy_export(tiny_model_path, "--output", output, "--name", "tiny", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["schema"] == 1
    assert found["machine"]["cpu"]
    assert found["bundle"]["name"] == "tiny"
    assert [entry["file"] for entry in found["bundle"]["files"]] == [
        "model.keras", "model.onnx", "model.fp16.onnx", "keras_outputs.npz",
    ]  # fmt: skip
    for row in found["rows"]:
        assert (row["device"], row["status"], row["simulated"]) == ("cpu", "ok", False)
        assert row["effective"] == {"fp16": "fp32"}.get(row["precision"], row["precision"])
        if row["precision"] == "fp32":
            assert row["agreement"] == 1
            assert row["max_abs_difference"] <= 1e-5
    assert {row["precision"] for row in found["rows"]} >= {"fp32", "fp16"}
    assert {(row["backend"], row["batch"]) for row in found["rows"]} >= {("openvino", 1), ("openvino", 37)}


def test_an_error_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_text("no model")
    done = fer_deploy_export(tmp_path / "model.keras", "--output", tmp_path / "bundle")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"fer-deploy: {tmp_path / 'model.keras'} is not a Keras file: expected a .keras archive as model.save writes it"
    ]
    assert not (tmp_path / "bundle").exists()


def test_help_has_examples() -> None:
    done = fer_deploy_export("--help")
    assert done.returncode == 0
    assert "fer-deploy export runs/first/model.keras" in done.stdout


def test_a_foreign_network_half_described_is_refused_at_once(tiny_model_path: Path, tmp_path: Path) -> None:
    done = fer_deploy_export(
        tiny_model_path, "--output", tmp_path / "bundle", "--input-size", "64x64", "--scale", "-1,1"
    )
    assert done.returncode == 2
    assert done.stderr.startswith("fer-deploy: A network that others trained needs classes too: pass --scale LOW,HIGH")
    assert len(done.stderr.splitlines()) == 1


def test_a_foreign_network_in_toml(tiny_model_path: Path, tmp_path: Path) -> None:
    network = tmp_path / "their.toml"
    network.write_text('classes = ["neutral", "surprise", "sad", "happy", "fear", "disgust", "angry"]\nscale = [0, 1]')
    done = fer_deploy_export(tiny_model_path, "--output", tmp_path / "bundle", "--network", network, "--scale", "0,255")
    assert done.returncode == 0, done.stderr
    made_with = json.loads((tmp_path / "bundle/bundle.json").read_text())["artefacts"][0]["made_with"]
    assert made_with["network"]["scale"] == [0, 255]
    assert made_with["network"]["classes"][0] == "neutral"
