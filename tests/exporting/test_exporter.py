"""One export from end to end."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import MissingDependencyError, ModelError, OutputError, UsageError
from fer_deploy.exporting.exporter import export_bundle, training_summary
from fer_deploy.exporting.onnx import import_toolchain
from fer_deploy.verification.tolerances import TOLERANCES, ParityLimit

for package in ("tensorflow", "tf2onnx", "onnx", "onnxslim"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'fer-deploy[export]'")


@pytest.fixture
def model_path(tiny_model_path: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model in a folder of its own, as training leaves it."""
    folder = tmp_path / "run"
    folder.mkdir()
    return Path(shutil.copy(tiny_model_path, folder))


def test_bundle_is_complete(tiny_bundle: Bundle, tiny_model_path: Path) -> None:
    files = ["bundle.json", "keras_outputs.npz", "model.fp16.onnx", "model.keras", "model.onnx"]
    assert sorted(path.name for path in tiny_bundle.path.iterdir()) == files
    kinds = [("keras", "fp32"), ("onnx", "fp32"), ("onnx", "fp16"), ("outputs", "fp32")]
    assert [(a.format, a.precision) for a in tiny_bundle.artefacts] == kinds
    assert tiny_bundle.target_accuracy is None
    assert tiny_bundle.read("keras") == tiny_model_path.read_bytes()
    assert tiny_bundle.source_sha256 == hashlib.sha256(tiny_model_path.read_bytes()).hexdigest()
    assert Bundle.load(tiny_bundle.path) == tiny_bundle


def test_bundle_carries_its_proof(tiny_bundle: Bundle) -> None:
    onnx = tiny_bundle.find("onnx")
    assert onnx is not None
    assert onnx.made_with["opset"] == 17
    assert set(onnx.made_with["tools"]) == {"keras", "tensorflow", "tf2onnx", "onnx", "onnxslim"}
    for entry in onnx.made_with["parity"]:
        assert entry["precision"] in ("fp32", "bf16")
        assert entry["precision"] == "bf16" or (entry["max_abs_difference"] <= 1e-5 and entry["agreement"] == 1)
    assert {entry["batch"] for entry in onnx.made_with["parity"]} == {1, 37}


def test_name_report_and_training_summary(model_path: Path, tmp_path: Path) -> None:
    record = '{"summary": {"accuracy": {"PrivateTest": 0.67}, "loss": [NaN, 1.5]}, "epochs": [{"loss": 2}]}'
    model_path.with_name("metrics.json").write_text(record)
    lines: list[str] = []
    bundle = export_bundle(model_path, tmp_path / "emotions", report=lines.append)
    assert bundle.name == "emotions"
    assert bundle.training == {"accuracy": {"PrivateTest": 0.67}, "loss": [None, 1.5]}
    assert lines == [
        "Left out: int8, int8-trt. INT8 needs Training pictures to calibrate with: "
        "give FER-2013 with --calibration or --data",
        "Loading TensorFlow",
        f"Reading {model_path}",
        "Converting to ONNX",
        "Converting to fp16",
        "Comparing with Keras: built-in probe set, 111 pictures",
    ]


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"summary": [1]}'])
def test_another_tools_metrics_are_left_out_and_said_so(tmp_path: Path, record: str) -> None:
    (tmp_path / "metrics.json").write_text(record)
    lines: list[str] = []
    assert training_summary(tmp_path / "metrics.json", lines.append) == {}
    assert lines == [f"Left out: {tmp_path / 'metrics.json'} is not a record of our training"]


def test_mixed_precision_comes_out_in_float32(make_model: Callable[..., Any], tmp_path: Path) -> None:
    source = tmp_path / "model.keras"
    make_model(policy="mixed_bfloat16").save(source)
    bundle = export_bundle(source, tmp_path / "bundle")
    keras = bundle.find("keras")
    assert keras is not None
    assert keras.made_with["rebuilt_from"] == ["mixed_bfloat16"]
    assert bundle.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    model = import_toolchain().keras.saving.load_model(bundle.path / keras.file, compile=False)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_existing_bundle_is_kept_or_replaced_as_asked(model_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    export_bundle(model_path, output, name="first")
    with pytest.raises(OutputError, match="--overwrite"):
        export_bundle(model_path, output)
    assert export_bundle(model_path, output, name="second", overwrite=True).name == "second"
    (output / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt"):
        export_bundle(model_path, output, overwrite=True)


def test_failed_parity_leaves_no_bundle(model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strict = TOLERANCES["fp32"]._replace(parity=ParityLimit(0, 0, 1))
    monkeypatch.setattr("fer_deploy.exporting.parity.TOLERANCES", {"fp32": strict})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ModelError, match="does not compute what Keras computes"):
        export_bundle(model_path, tmp_path / "bundle")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("name", "folder"), [("a\nb", "bundle"), (None, "a\nb"), (None, "/")])
def test_unprintable_name_is_refused(tmp_path: Path, name: str | None, folder: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        export_bundle(tmp_path / "model.keras", tmp_path / folder, name=name)


def test_wrong_file_is_refused_before_tensorflow_loads(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_text("no model")
    lines: list[str] = []
    with pytest.raises(ModelError, match="not a Keras file"):
        export_bundle(tmp_path / "model.keras", tmp_path / "bundle", report=lines.append)
    assert lines == []


def test_missing_package_is_named(model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(MissingDependencyError, match=r"tf2onnx.*pip install 'fer-deploy\[export\]'"):
        export_bundle(model_path, tmp_path / "bundle")


def test_other_keras_backend_in_this_process(model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    with pytest.raises(UsageError, match=r"jax backend in this process.*fer-deploy export"):
        export_bundle(model_path, tmp_path / "bundle")


def test_manifest_is_plain_json_without_nan(tiny_bundle: Bundle) -> None:
    def refuse(text: str) -> None:
        raise AssertionError(text)

    json.loads((tiny_bundle.path / "bundle.json").read_text(), parse_constant=refuse)
