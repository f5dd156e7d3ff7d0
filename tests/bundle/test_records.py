"""Records round-trip, go to the right place, hold for the file they name, and damage in them is refused."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fer_deploy.bundle import store
from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.bundle.records import Record, parse_record
from fer_deploy.bundle.store import keep, recorded, state_file
from fer_deploy.errors import BundleError

DIGEST = "0" * 64


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    root = tmp_path / "bundle"
    root.mkdir()
    (root / "model.onnx").write_bytes(b"onnx")
    Bundle(root, "test", DIGEST, (describe_file(root, "model.onnx", "onnx", "fp32", {}),), {}, 0.6402).save()
    return Bundle.load(root)


def record(bundle: Bundle, **changes: Any) -> Record:
    whole = Record(
        backend="openvino", precision="fp32", effective="fp32", simulated=False, device="cpu", runtime="OpenVINO 1",
        machine="avx2", artefact_sha256=bundle.artefacts[0].sha256, split="PrivateTest", n=3589, accuracy=0.68,
        drift_points=0.0, agreement=1.0, images_per_s=900.0, status="ok", reason="", date="2026-01-01",
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)


def test_a_users_bundle_keeps_its_own_records(bundle: Bundle, state: Path) -> None:
    first, other = record(bundle), record(bundle, machine="amx")
    assert keep(bundle, [first, other]) == bundle.path
    assert keep(Bundle.load(bundle.path), [dataclasses.replace(first, accuracy=0.69)]) == bundle.path
    assert [(r.machine, r.accuracy) for r in recorded(Bundle.load(bundle.path))] == [("avx2", 0.69), ("amx", 0.68)]
    assert not state.exists()
    assert Bundle.load(bundle.path).target_accuracy == 0.6402


def test_a_shipped_bundle_is_left_as_it_is(bundle: Bundle, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_deploy.bundle.manifest.ASSETS", bundle.path.parent)
    before = (bundle.path / "bundle.json").read_bytes()
    assert keep(bundle, [record(bundle)]) == state_file(bundle)
    assert state_file(bundle).is_relative_to(state)
    assert recorded(bundle) == (record(bundle),)
    assert (bundle.path / "bundle.json").read_bytes() == before


def test_records_of_another_file_do_not_hold(bundle: Bundle) -> None:
    keep(bundle, [record(bundle, artefact_sha256="1" * 64)])
    assert recorded(Bundle.load(bundle.path)) == ()


def test_stale_state_hides_no_record_of_the_bundle(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state file is named by the model, and so outlives files that were made of it."""
    keep(bundle, [record(bundle)])
    bundle = Bundle.load(bundle.path)
    monkeypatch.setattr("fer_deploy.bundle.manifest.ASSETS", bundle.path.parent)
    keep(bundle, [record(bundle, artefact_sha256="1" * 64)])
    assert recorded(bundle) == (record(bundle),)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"backend": "onnx"}]', "[" * 100_000, '["a"'])
def test_damaged_state_counts_as_none(bundle: Bundle, content: str) -> None:
    state_file(bundle).parent.mkdir(parents=True)
    state_file(bundle).write_text(content)
    assert recorded(bundle) == ()


def test_huge_state_counts_as_none(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    state_file(bundle).parent.mkdir(parents=True)
    state_file(bundle).write_text(json.dumps([asdict(record(bundle))]))
    monkeypatch.setattr(store, "MAX_BYTES", 10)
    assert recorded(bundle) == ()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("accuracy", 1.5, "values that cannot be"),
        ("accuracy", float("nan"), "values that cannot be"),
        ("accuracy", "0.6", "accuracy"),
        ("agreement", -0.1, "values that cannot be"),
        ("n", 0, "values that cannot be"),
        ("n", True, "n of a record"),
        ("status", "fine", "values that cannot be"),
        ("simulated", 1, "simulated"),
        ("artefact_sha256", "abc", "artefact_sha256"),
        ("drift_points", float("inf"), "values that cannot be"),
        ("device", None, "device"),
        ("extra", 1, "wrong fields: 'extra'"),
    ],
)
def test_wrong_values_are_refused(bundle: Bundle, field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_record({**asdict(record(bundle)), field: value})


def test_whole_numbers_are_fractions_too(bundle: Bundle) -> None:
    assert parse_record({**asdict(record(bundle)), "agreement": 1}).agreement == 1.0


@pytest.mark.parametrize("value", [1.5, "0.6", True, [0.6]])
def test_wrong_target_accuracy_is_refused(bundle: Bundle, value: Any) -> None:
    manifest = json.loads((bundle.path / "bundle.json").read_text())
    (bundle.path / "bundle.json").write_text(json.dumps({**manifest, "target_accuracy": value}))
    with pytest.raises(BundleError, match="target_accuracy"):
        Bundle.load(bundle.path)


@pytest.mark.parametrize(
    ("format", "target", "message"),
    [
        ("engine", "", "an engine has a target"),
        ("onnx", "sm86", "nothing else"),
        ("engine", "../x", "expected one like"),
    ],
)
def test_only_engines_have_a_target(bundle: Bundle, format: str, target: str, message: str) -> None:
    artefact = dataclasses.replace(bundle.artefacts[0], format=format, target=target)
    dataclasses.replace(bundle, artefacts=(artefact,)).save()
    with pytest.raises(BundleError, match=message):
        Bundle.load(bundle.path)
