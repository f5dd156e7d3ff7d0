"""``verify`` with the real runtimes on the tiny model."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.bundle.reference_predictions import read_outputs
from fer_deploy.bundle.store import recorded, state_file
from fer_deploy.data.fer2013 import Partition
from fer_deploy.errors import BundleError, MissingDependencyError, UnavailableError, UsageError
from fer_deploy.system.machine import machine_info
from fer_deploy.verification.record import record
from fer_deploy.verification.reference import Reference
from fer_deploy.verification.self_test import self_test
from fer_deploy.verification.tolerances import Gate
from fer_deploy.verification.variants import TRT_INT8, ModelVariant, select
from fer_deploy.verification.verifier import Verification, VerificationRow, verify

SPLIT = "PrivateTest"
KERAS_ACCURACY = 91 / 111


GROUNDS: dict[Path, Reference] = {}


def run(bundle: Bundle, partition: Partition, *selection: str, gate: Gate | None = None) -> Verification:
    """Verifies with Keras's answers of the first time where the bundle is the same."""
    chosen = selection or ("all", "fp32,fp16,int8")  # whether there is bf16, and how good, is the CPU's affair
    gate = gate or Gate(bundle.target_accuracy)
    outcome = verify(bundle, partition, SPLIT, select(*chosen), gate, reference=GROUNDS.get(bundle.path))
    if outcome.reference.source == "keras":
        GROUNDS[bundle.path] = outcome.reference
    return outcome


def row(outcome: Verification, variant: str) -> VerificationRow:
    (found,) = (each for each in outcome.rows if str(each.variant) == variant)
    return found


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)


@pytest.fixture(scope="module")
def whole(recorded_bundle: Bundle, tiny_partition: Partition) -> Verification:
    return run(recorded_bundle, tiny_partition)


def copy(bundle: Bundle, folder: Path) -> Bundle:
    shutil.copytree(bundle.path, folder)
    return dataclasses.replace(bundle, path=folder)


def test_every_form_has_a_row(whole: Verification) -> None:
    assert [each.variant for each in whole.rows] == list(select("all", "fp32,fp16,int8").variants)
    assert whole.passed
    ran = {str(each.variant) for each in whole.rows if each.status == "ok"}
    assert ran == {"keras/fp32", "onnx/fp32", "onnx/fp16", "openvino/fp32", "openvino/fp16"}
    assert {each.status for each in whole.rows} == {"ok", "skipped"}


def test_figures(whole: Verification) -> None:
    keras, openvino = row(whole, "keras/fp32"), row(whole, "openvino/fp32")
    assert (keras.agreement, keras.drift_points, keras.drift_p, keras.max_abs_difference) == (1.0, 0.0, 1.0, 0.0)
    assert keras.accuracy == openvino.accuracy == pytest.approx(KERAS_ACCURACY)
    assert openvino.interval
    assert openvino.interval[0] < KERAS_ACCURACY < openvino.interval[1]
    assert (openvino.n, openvino.batch, openvino.device, openvino.mode) == (111, 64, "cpu", "throughput")
    assert openvino.machine == machine_info()["cpu_class"]
    assert openvino.class_accuracy
    assert openvino.images_per_s
    assert row(whole, "onnx/fp16").effective == "fp32"
    assert whole.reference.source == "keras"
    assert whole.reference.notes == ()


def test_what_cannot_run_tells_why(whole: Verification) -> None:
    skipped = row(whole, "openvino/int8")
    assert skipped.status == "skipped"
    assert skipped.accuracy is None
    assert "has no int8 onnx file; make one with: fer-deploy export" in str(skipped.reason)


def test_rows_are_json(whole: Verification) -> None:
    text = json.dumps([each.as_dict() for each in whole.rows], allow_nan=False)
    assert {"backend", "precision", "effective", "simulated", "device", "runtime", "mode", "batch", "n", "accuracy",
            "drift_points", "agreement", "images_per_s", "status", "reason"} <= set(json.loads(text)[0])  # fmt: skip


def test_what_is_required_and_cannot_run_fails(recorded_bundle: Bundle, tiny_partition: Partition) -> None:
    outcome = run(recorded_bundle, tiny_partition, "openvino", "fp32", "openvino/int8,openvino/fp16")
    (line,) = outcome.failures
    assert line.startswith("openvino/int8 is required and did not run: the bundle has no int8")


def test_only_what_is_required_and_cannot_run(recorded_bundle: Bundle, tiny_partition: Partition) -> None:
    assert len(run(recorded_bundle, tiny_partition, "all", "int8", "onnx/int8,openvino/int8").failures) == 2


def test_nothing_that_runs_is_no_proof(recorded_bundle: Bundle, tiny_partition: Partition) -> None:
    with pytest.raises(UnavailableError, match=r"Nothing can be verified here: .*has no int8 onnx file"):
        run(recorded_bundle, tiny_partition, "all", "int8")


def test_a_named_backend_must_run(
    recorded_bundle: Bundle, tiny_partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "onnxruntime")
    with pytest.raises(MissingDependencyError, match=r"pip install 'fer-deploy\[onnx\]'"):
        run(recorded_bundle, tiny_partition, "openvino,onnx")
    others = run(recorded_bundle, tiny_partition)
    assert others.passed
    assert "pip install 'fer-deploy[onnx]'" in str(row(others, "onnx/fp32").reason)
    required = run(recorded_bundle, tiny_partition, "all", "all", "onnx/fp32")
    assert "onnx/fp32 is required and did not run: What the onnx" in required.failures[0]


def test_without_keras_its_record_is_the_ground(
    recorded_bundle: Bundle, tiny_partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "keras")
    monkeypatch.delitem(GROUNDS, recorded_bundle.path, raising=False)
    outcome = run(recorded_bundle, tiny_partition)
    assert outcome.reference.source == "recorded"
    assert "pip install 'fer-deploy[export]'" in outcome.reference.notes[0]
    assert outcome.passed
    assert row(outcome, "keras/fp32").status == "skipped"
    assert row(outcome, "openvino/fp32").drift_points == 0


def test_without_keras_and_record_it_says_what_to_do(
    recorded_bundle: Bundle, tiny_bundle: Bundle, tiny_partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "keras")
    GROUNDS.clear()
    with pytest.raises(UsageError, match=r"nothing to compare with.*pip install.*--record"):
        run(dataclasses.replace(tiny_bundle, artefacts=tiny_bundle.artefacts[:2]), tiny_partition)
    others = Partition(tiny_partition.images[::-1], tiny_partition.labels, tiny_partition.names)
    with pytest.raises(UsageError, match="no recorded Keras answers to these 111 pictures"):
        run(recorded_bundle, others)


def test_both_test_sets_are_found_as_one(recorded_bundle: Bundle, tmp_path: Path, tiny_predictions: np.ndarray) -> None:
    from fer_deploy.bundle.reference_predictions import KerasOutputs, RecordedPartition, fingerprint
    from fer_deploy.data.probe import probe_images
    from fer_deploy.verification.reference import recorded_predictions

    images = probe_images()
    cut = {"PublicTest": slice(0, 40), "PrivateTest": slice(40, None)}
    parts = {name: RecordedPartition(fingerprint(images[part]), tiny_predictions[part]) for name, part in cut.items()}
    outputs = KerasOutputs(tiny_predictions, parts)
    np.testing.assert_array_equal(recorded_predictions(outputs, images), tiny_predictions)
    np.testing.assert_array_equal(recorded_predictions(outputs, images[40:]), tiny_predictions[40:])
    assert recorded_predictions(outputs, images[1:]) is None


def test_a_record_that_keras_contradicts_is_told(
    recorded_bundle: Bundle, tiny_partition: Partition, tiny_predictions: np.ndarray, tmp_path: Path
) -> None:
    from fer_deploy.bundle.reference_predictions import RecordedPartition, fingerprint, write_outputs

    bundle = copy(recorded_bundle, tmp_path / "bundle")
    part = RecordedPartition(fingerprint(tiny_partition.images), tiny_predictions[::-1].copy())
    file = write_outputs(bundle.path, probe=tiny_predictions, partitions={SPLIT: part})
    others = tuple(artefact for artefact in bundle.artefacts if artefact.format != "outputs")
    bundle = dataclasses.replace(bundle, artefacts=(*others, describe_file(bundle.path, file, "outputs", "fp32", {})))
    outcome = run(bundle, tiny_partition, "openvino", "fp32")
    assert outcome.passed
    assert "Keras differs from its answers recorded" in outcome.reference.notes[0]


@pytest.mark.parametrize("content", [b"not a model", b""])
def test_a_file_that_the_runtime_refuses_is_a_failure(
    recorded_bundle: Bundle, tiny_partition: Partition, tmp_path: Path, content: bytes
) -> None:
    bundle = copy(recorded_bundle, tmp_path / "bundle")
    (bundle.path / "model.fp16.onnx").write_bytes(content or b"\x08\x07")
    new = describe_file(bundle.path, "model.fp16.onnx", "onnx", "fp16", {})
    others = tuple(artefact for artefact in bundle.artefacts if artefact.precision != "fp16")
    broken = dataclasses.replace(bundle, artefacts=(*others, new))
    outcome = run(broken, tiny_partition, "openvino", "fp16,fp32")
    assert [line.partition(":")[0] for line in outcome.failures] == ["openvino/fp16"]
    assert row(outcome, "openvino/fp16").agreement is None
    record(broken, outcome, tiny_partition.images[..., None])
    kept = {each.precision: each for each in recorded(Bundle.load(bundle.path)) if each.backend == "openvino"}
    assert (kept["fp16"].status, kept["fp16"].accuracy, kept["fp32"].status) == ("failed", 0.0, "ok")


def test_a_changed_file_ends_it(recorded_bundle: Bundle, tiny_partition: Partition, tmp_path: Path) -> None:
    bundle = copy(recorded_bundle, tmp_path / "bundle")
    with (bundle.path / "model.fp16.onnx").open("r+b") as file:
        file.seek(100)
        file.write(b"\xff\x00\xff")
    with pytest.raises(BundleError, match="SHA-256 differs"):
        run(bundle, tiny_partition)


def test_target_and_tolerance(recorded_bundle: Bundle, tiny_partition: Partition) -> None:
    def failures(**gate: float) -> tuple[str, ...]:
        return run(recorded_bundle, tiny_partition, "openvino", "fp32", gate=Gate(**gate)).failures

    assert failures(target=KERAS_ACCURACY + 0.004) == ()
    above = failures(target=KERAS_ACCURACY + 0.006)
    assert [line.partition(":")[0] for line in above] == ["keras/fp32", "openvino/fp32"]
    assert failures(target=KERAS_ACCURACY + 0.006, tolerance_points=1) == ()


def test_tensorrt_is_simulated_where_it_cannot_run(
    recorded_bundle: Bundle, tiny_partition: Partition, tmp_path: Path
) -> None:
    bundle = copy(recorded_bundle, tmp_path / "bundle")
    shutil.copy(bundle.path / "model.onnx", bundle.path / "model.int8-trt.onnx")
    new = describe_file(bundle.path, "model.int8-trt.onnx", "onnx", "int8-trt", {})
    bundle = dataclasses.replace(bundle, artefacts=(*bundle.artefacts, new))
    outcome = run(bundle, tiny_partition, "all", "int8-trt")
    found = row(outcome, str(TRT_INT8))
    if not found.simulated:
        pytest.skip("TensorRT runs here")
    assert (found.status, found.effective, found.images_per_s) == ("ok", "int8", None)
    assert str(found.reason).startswith("simulated with ONNX Runtime")
    required = run(bundle, tiny_partition, "all", "int8-trt", "trt/int8")
    assert required.failures[0].startswith("trt/int8-trt is required and did not run: simulated")
    with pytest.raises((MissingDependencyError, UnavailableError)):
        run(bundle, tiny_partition, "trt", "int8-trt")


def test_records_are_kept_with_kerass_answers(
    recorded_bundle: Bundle, tiny_partition: Partition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy(recorded_bundle, tmp_path / "bundle")
    bundle = dataclasses.replace(bundle, artefacts=tuple(a for a in bundle.artefacts if a.format != "outputs"))
    bundle.save()
    outcome = run(bundle, tiny_partition, "openvino,onnx", "fp32")
    assert record(bundle, outcome, tiny_partition.images[..., None]) == bundle.path
    kept = {(each.backend, each.precision): each for each in recorded(Bundle.load(bundle.path))}
    assert set(kept) == {("keras", "fp32"), ("onnx", "fp32"), ("openvino", "fp32")}
    openvino = kept["openvino", "fp32"]
    assert (openvino.machine, openvino.split, openvino.n) == (machine_info()["cpu_class"], SPLIT, 111)
    assert openvino.accuracy == pytest.approx(KERAS_ACCURACY)
    assert openvino.images_per_s > 0

    without(monkeypatch, "keras")
    GROUNDS.clear()
    again = run(Bundle.load(bundle.path), tiny_partition, "openvino", "fp32")
    assert again.reference.source == "recorded"
    assert again.passed


def test_a_bundle_that_is_not_the_users_stays_as_it_is(
    recorded_bundle: Bundle, tiny_partition: Partition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy(recorded_bundle, tmp_path / "bundle")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("fer_deploy.bundle.manifest.ASSETS", tmp_path)
    before = {path.name: path.read_bytes() for path in bundle.path.iterdir()}
    outcome = run(bundle, tiny_partition, "openvino", "fp32")
    assert record(bundle, outcome, tiny_partition.images[..., None]) == state_file(bundle)
    assert {path.name: path.read_bytes() for path in bundle.path.iterdir()} == before
    assert len(recorded(bundle)) == 2


def test_self_test_without_keras(recorded_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "keras")
    outcome = self_test(recorded_bundle)
    assert outcome.passed
    assert ModelVariant("keras", "fp32") not in [each.variant for each in outcome.rows]
    found = row(outcome, "openvino/fp32")
    assert (found.agreement, found.accuracy, found.drift_points, found.n) == (1.0, None, None, 111)


def test_self_test_asks_keras_where_nothing_is_recorded(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = dataclasses.replace(
        tiny_bundle, artefacts=tuple(a for a in tiny_bundle.artefacts if a.format != "outputs")
    )
    assert read_outputs(bundle) is None
    outcome = self_test(bundle, select("openvino", "fp32"))
    assert (outcome.reference.source, outcome.passed) == ("keras", True)
    without(monkeypatch, "keras")
    with pytest.raises(UsageError, match="holds no answers of Keras"):
        self_test(bundle, select("openvino", "fp32"))
