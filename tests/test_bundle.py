"""A bundle round-trips, and every kind of damage is refused with a line that names it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_deploy import bundle as bundle_module
from fer_deploy.bundle import MANIFEST, MAX_MANIFEST_BYTES, Bundle, describe_file
from fer_deploy.errors import BundleError, OutputError

CONTENT = {"model.keras": b"keras " * 50, "models/model.onnx": b"onnx " * 50}
DIGEST = "0" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A valid bundle of two files that no runtime would take; nothing here runs them."""
    root = tmp_path / "bundle"
    (root / "models").mkdir(parents=True)
    for name, content in CONTENT.items():
        (root / name).write_bytes(content)
    artefacts = tuple(describe_file(root, name, name.rpartition(".")[2], "fp32", {"by": "test"}) for name in CONTENT)
    Bundle(root, "test", DIGEST, artefacts, {"accuracy": 0.67}).save()
    return root


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Applies an edit to the manifest."""
    manifest = json.loads((folder / MANIFEST).read_text())
    edit(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_round_trip(folder: Path) -> None:
    bundle = Bundle.load(folder)
    assert (bundle.name, bundle.source_sha256, bundle.training) == ("test", DIGEST, {"accuracy": 0.67})
    assert [(a.format, a.made_with) for a in bundle.artefacts] == [("keras", {"by": "test"}), ("onnx", {"by": "test"})]
    before = (folder / MANIFEST).read_bytes()
    bundle.save()
    assert (folder / MANIFEST).read_bytes() == before
    assert Bundle.load(folder / MANIFEST) == Bundle.load(str(folder)) == bundle
    assert bundle.read("onnx") == CONTENT["models/model.onnx"]
    assert bundle.find("onnx", "fp16") is None


def test_save_is_whole_or_not_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / MANIFEST).read_bytes()

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        Bundle.load(folder).save()
    assert (folder / MANIFEST).read_bytes() == before


def test_nan_never_reaches_a_manifest(folder: Path) -> None:
    loaded = Bundle.load(folder)
    with pytest.raises(ValueError, match="Out of range float"):
        Bundle(folder, "test", DIGEST, loaded.artefacts, {"accuracy": float("nan")}).save()
    assert Bundle.load(folder) == loaded


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is not a bundle.*Make one with: fer-deploy export"):
        Bundle.load(tmp_path)
    with pytest.raises(BundleError, match="is not a bundle"):
        Bundle.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe{}", b"[" * 200_000, b'{"format_version": 1' + b"0" * 5000 + b"}", b"\x00" * 10],
    ids=["empty", "cut", "encoding", "deep", "long number", "zeros"],
)
def test_manifest_that_is_no_json(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=r"is damaged: not valid JSON"):
        Bundle.load(folder)


def test_huge_manifest_is_not_read(folder: Path) -> None:
    os.truncate(folder / MANIFEST, MAX_MANIFEST_BYTES + 1)
    with pytest.raises(BundleError, match="larger than"):
        Bundle.load(folder)


def test_manifest_that_is_no_file(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    os.mkfifo(folder / MANIFEST)  # reading it would wait for ever
    with pytest.raises(BundleError, match="is not a file"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format_version", 2, "format_version is 2, this program reads 1"),
        ("labels", ["happy"], r"labels are \['happy'\], expected \['angry'"),
        ("labels", "angry", "'labels' is missing or not of type list"),
        ("input", {"name": "x"}, r"input is \{'name': 'x'\}, expected"),
        ("name", "", "the name '' is empty"),
        ("name", "a\nb", "unprintable"),
        ("source_sha256", "abc", "not a SHA-256"),
        ("artefacts", [], "it lists no artefact"),
        ("artefacts", [1], "an artefact is not a JSON object"),
        ("training", None, "'training' is missing or not of type dict"),
    ],
)
def test_wrong_manifest_values(folder: Path, key: str, value: Any, message: str) -> None:
    change(folder, lambda manifest: manifest.update({key: value}))
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("file", "/etc/passwd", "leads out of the bundle"),
        ("file", "../model.onnx", "leads out of the bundle"),
        ("file", "models/../../x", "leads out of the bundle"),
        ("file", "..\\x", "leads out of the bundle"),
        ("file", "", "leads out of the bundle"),
        ("file", ".", "leads out of the bundle"),
        ("file", "a\0b", "unprintable"),
        ("file", "\ud800", "unprintable"),
        ("file", 3, "'file' is missing or not of type str"),
        ("format", "pickle", "unknown kind of artefact: 'pickle' 'fp32'"),
        ("precision", "int4", "unknown kind of artefact"),
        ("size", 0, "the size of model.keras is 0"),
        ("size", True, "'size' is missing or not of type int"),
        ("sha256", "0" * 63, "'sha256' is not a SHA-256"),
        ("sha256", "G" * 64, "'sha256' is not a SHA-256"),
        ("made_with", [], "'made_with' is missing or not of type dict"),
        ("format", "onnx", "two artefacts of the same format, precision and target"),
    ],
)
def test_wrong_artefact_values(folder: Path, key: str, value: Any, message: str) -> None:
    change(folder, lambda manifest: manifest["artefacts"][0].update({key: value}))
    with pytest.raises(BundleError, match=message):
        Bundle.load(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: b"",
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: content[:-1] + bytes([content[-1] ^ 0x80]),
    ],
    ids=["truncated", "longer", "empty", "first bit", "last bit"],
)
def test_changed_file_is_refused(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    path = folder / "models/model.onnx"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BundleError, match=r"model\.onnx is not the file that the bundle's manifest names"):
        Bundle.load(folder).read("onnx")


def test_missing_file_is_refused(folder: Path) -> None:
    (folder / "models/model.onnx").unlink()
    with pytest.raises(BundleError, match=r"cannot be read.*incomplete"):
        Bundle.load(folder).read("onnx")


def test_folder_in_a_files_place_is_refused(folder: Path) -> None:
    (folder / "models/model.onnx").unlink()
    (folder / "models/model.onnx").mkdir()
    with pytest.raises(BundleError):
        Bundle.load(folder).read("onnx")


def test_links_out_of_the_bundle_are_not_followed(folder: Path, tmp_path: Path) -> None:
    path = folder / "models/model.onnx"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")  # the very same content
    with pytest.raises(BundleError, match="link out of the bundle"):
        Bundle.load(folder).read("onnx")


def test_folder_that_is_a_link_out_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "models").rename(tmp_path / "elsewhere")
    (folder / "models").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="link out of the bundle"):
        Bundle.load(folder).read("onnx")


def test_links_in_a_circle(folder: Path) -> None:
    (folder / "models/model.onnx").unlink()
    (folder / "models/model.onnx").symlink_to("model.onnx")
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.load(folder).read("onnx")


def test_link_inside_the_bundle_and_to_it(folder: Path, tmp_path: Path) -> None:
    (folder / "models/model.onnx").rename(folder / "real")
    (folder / "models/model.onnx").symlink_to("../real")
    (tmp_path / "link").symlink_to(folder)
    assert Bundle.load(tmp_path / "link").read("onnx") == CONTENT["models/model.onnx"]


def test_what_it_does_not_have(folder: Path) -> None:
    with pytest.raises(BundleError, match="has no onnx model in int8; it has: keras fp32, onnx fp32"):
        Bundle.load(folder).read("onnx", "int8")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
artefact_like = st.fixed_dictionaries(
    {},
    optional={
        "file": st.text(max_size=8) | st.sampled_from(["model.onnx", "../x", "/x", "a/b"]) | json_values,
        "format": st.sampled_from(["keras", "onnx"]) | json_values,
        "precision": st.sampled_from(["fp32", "int8"]) | json_values,
        "size": st.integers(-1, 9) | json_values,
        "sha256": st.just(DIGEST) | json_values,
        "made_with": st.just({}) | json_values,
    },
)
manifest_like = st.fixed_dictionaries(
    {
        "format_version": st.just(1),
        "labels": st.just(list(bundle_module.LABELS)) | json_values,
        "input": st.just(bundle_module.input_contract()) | json_values,
    },
    optional={
        "name": st.just("x") | json_values,
        "source_sha256": st.just(DIGEST) | json_values,
        "artefacts": st.lists(artefact_like, max_size=3) | json_values,
        "training": st.just({}) | json_values,
    },
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(raw=json_values | manifest_like)
def test_any_json_is_a_bundle_or_a_bundle_error(tmp_path: Path, raw: Any) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps(raw), encoding="utf-8")
    try:
        bundle = Bundle.load(tmp_path)
    except BundleError as error:
        assert str(tmp_path) in str(error)  # noqa: PT017 - an error is one of two right outcomes
        str(error).encode()
        return
    for artefact in bundle.artefacts:
        assert (tmp_path / artefact.file).resolve().is_relative_to(tmp_path.resolve())
        with pytest.raises(BundleError):  # nothing lies there
            bundle.read(artefact.format, artefact.precision)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_bundle_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError):
        Bundle.load(tmp_path)
