"""What ``bench --tune`` found is kept where records are, and holds for the file and the machine that it names."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fer_deploy.backends import select
from fer_deploy.backends.base import BackendSettings
from fer_deploy.backends.select import BackendChoice, describe_settings, tuned_settings
from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.bundle.records import Tuned, parse_tuned
from fer_deploy.bundle.store import KIND, keep_tuned, state_file, tuned_for
from fer_deploy.errors import BundleError

VARIANT = BackendChoice("openvino", "fp32", "cpu")


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An AVX2 machine with four cores and a state folder of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(select, "cpu_flags", lambda: {"avx2"})
    monkeypatch.setattr(select, "usable_cores", lambda: 4)
    monkeypatch.setattr(select, "gpu_names", lambda: ("NVIDIA H200",))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    root = tmp_path / "bundle"
    root.mkdir()
    (root / "model.onnx").write_bytes(b"onnx")
    Bundle(root, "test", "0" * 64, (describe_file(root, "model.onnx", "onnx", "fp32", {}),)).save()
    return Bundle.load(root)


def tuned(bundle: Bundle, **changes: Any) -> Tuned:
    whole = Tuned(
        backend="openvino", precision="fp32", device="cpu", runtime="OpenVINO 1", machine="avx2", cores=4,
        artefact_sha256=bundle.artefacts[0].sha256, threads=0, streams=2, batch=16, images_per_s=900.0, gain=1.25,
        date="2026-01-01",
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)


def kept(bundle: Bundle, **changes: Any) -> Bundle:
    keep_tuned(bundle, [tuned(bundle, **changes)])
    return Bundle.load(bundle.path)


def test_a_users_bundle_keeps_it_and_a_shipped_one_is_left_as_it_is(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = tuned(bundle), tuned(bundle, cores=8)
    assert keep_tuned(bundle, [first, other]) == bundle.path
    again = dataclasses.replace(first, batch=32)
    assert keep_tuned(Bundle.load(bundle.path), [again]) == bundle.path
    assert tuned_for(Bundle.load(bundle.path)) == (again, other)
    monkeypatch.setattr("fer_deploy.bundle.manifest.ASSETS", bundle.path.parent)
    before = (bundle.path / "bundle.json").read_bytes()
    assert keep_tuned(bundle, [first]) == state_file(bundle, KIND)
    assert tuned_for(bundle) == (first,)
    assert (bundle.path / "bundle.json").read_bytes() == before


def test_stale_state_hides_no_record_of_the_bundle(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = kept(bundle)
    monkeypatch.setattr("fer_deploy.bundle.manifest.ASSETS", bundle.path.parent)
    keep_tuned(bundle, [tuned(bundle, artefact_sha256="1" * 64)])
    assert tuned_for(bundle) == (tuned(bundle),)


def test_it_is_used_where_the_user_leaves_it_open(bundle: Bundle) -> None:
    assert tuned_settings(bundle, VARIANT) == BackendSettings()
    assert describe_settings(bundle, VARIANT) == (
        "batch 32, streams as the runtime sets, threads as the runtime sets: "
        "not tuned on such a machine; run: fer-deploy bench --tune"
    )
    bundle = kept(bundle)
    assert tuned_settings(bundle, VARIANT) == BackendSettings(None, 2, 16)
    assert tuned_settings(bundle, VARIANT, threads=3) == BackendSettings(None, None, 16)
    assert describe_settings(bundle, VARIANT) == (
        "batch 16, streams 2, threads as the runtime sets: tuned on avx2 with 4 cores, 1.25 times as fast as untuned"
    )


@pytest.mark.parametrize(
    "change",
    [{"cores": 2}, {"machine": "amx"}, {"backend": "onnx"}, {"precision": "int8"}, {"artefact_sha256": "1" * 64}],
)
def test_what_holds_for_something_else(bundle: Bundle, change: dict[str, Any]) -> None:
    assert tuned_settings(kept(bundle, **change), VARIANT) == BackendSettings()


def test_on_a_gpu_its_name_counts_and_not_the_cores(bundle: Bundle) -> None:
    variant = BackendChoice("onnx", "fp32", "cuda")
    bundle = kept(bundle, backend="onnx", device="cuda", machine="NVIDIA H200", cores=64, streams=0, batch=256)
    assert tuned_settings(bundle, variant) == BackendSettings(None, None, 256)
    assert "tuned on NVIDIA H200, 1.25" in describe_settings(bundle, variant)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("batch", value) for value in (0, -1, 1 << 20, 2.5, True, "64")),
        *(("threads", -1), ("streams", 1 << 20), ("cores", 0)),
        *(("gain", 0), ("gain", float("nan")), ("images_per_s", float("inf")), ("machine", "a\nb"), ("extra", 1)),
    ],
)
def test_wrong_values_are_refused(bundle: Bundle, field: str, value: Any) -> None:
    entry = {**asdict(tuned(bundle)), field: value}
    with pytest.raises(ValueError, match="record"):
        parse_tuned(entry)
    manifest = json.loads((bundle.path / "bundle.json").read_text())
    (bundle.path / "bundle.json").write_text(json.dumps({**manifest, "tuning": [entry]}))
    says = "record" if json.dumps(value) not in ("NaN", "Infinity") else "not valid JSON"
    with pytest.raises(BundleError, match=f"is damaged: .*{says}"):
        Bundle.load(bundle.path)


@pytest.mark.parametrize("content", ["", "{}", "[1]", "[" * 100_000])
def test_damaged_state_counts_as_none(bundle: Bundle, content: str) -> None:
    state_file(bundle, KIND).parent.mkdir(parents=True)
    state_file(bundle, KIND).write_text(content)
    assert tuned_settings(bundle, VARIANT) == BackendSettings()
