"""A bundle round-trips, and every kind of damage is refused with a line that names it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_deploy.bundle import keras_file  # noqa: F401 - so that no import opens files while they are watched
from fer_deploy.bundle import manifest as bundle_module
from fer_deploy.bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES, Bundle, describe_file
from fer_deploy.bundle.shipped import shipped_names
from fer_deploy.errors import BundleError, ModelError, OutputError

CONTENT = {"model.keras": b"keras " * 50, "models/model.onnx": b"\x08\x08" * 125}  # an ONNX file without a graph
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


@pytest.fixture
def assets(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that ships the bundles ``default`` and ``fast``, and a current folder elsewhere."""
    assets, here = tmp_path / "assets", tmp_path / "here"
    for name in ("fast", "default"):
        shutil.copytree(folder, assets / name)
    (assets / "__pycache__").mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(bundle_module, "ASSETS", assets)
    return assets


def test_shipped_bundles_have_names(assets: Path) -> None:
    assert shipped_names(assets) == ("default", "fast")
    assert shipped_names(assets / "nowhere") == ()
    assert Bundle.load().path == Bundle.load("default").path == assets / "default"
    assert Bundle.load("fast").path == assets / "fast"


def test_an_address_is_a_name_or_a_folder(assets: Path, folder: Path) -> None:
    assert Bundle.load("default").address == "default"
    assert Bundle.load(folder).address == str(folder)


def test_a_name_goes_before_a_folder_and_a_path_is_a_path(assets: Path, folder: Path) -> None:
    for name in ("fast", "mine"):
        shutil.copytree(folder, name)
    assert Bundle.load("fast").path == assets / "fast"
    for path in ("./fast", "fast/", Path("fast"), "fast/bundle.json"):
        assert (Bundle.load(path).path / MANIFEST).resolve() == Path("fast", MANIFEST).resolve()
    assert Bundle.load("mine").path == Path("mine")


@pytest.mark.parametrize("name", ["fats", "__pycache__", "..", "", "Fast", "f" * 300])
def test_an_unknown_name_lists_the_known_ones(assets: Path, name: str) -> None:
    with pytest.raises(BundleError, match=r"is not a bundle: .*; those that ship are default, fast\. Make one with"):
        Bundle.load(name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b"[" * 200_000,
        b'{"format_version": 1' + b"0" * 5000 + b"}",
        b"\x00" * 10,
        b'{"a": NaN}',
    ],
    ids=["empty", "cut", "encoding", "deep", "long number", "zeros", "no number"],
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
        ("size", (2 << 30) + 1, "the size of model.keras is 2147483649, expected 1 to 2147483648 bytes"),
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


class Opened:
    """Names of the files that the process opens while ``names`` is a list."""

    names: list[str] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and Opened.names is not None and isinstance(arguments[0], (str, os.PathLike)):
        Opened.names.append(os.fspath(arguments[0]))


sys.addaudithook(_note)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Lists the way to every value in a JSON document."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, child in items for place in places(child, (*path, key)))]


def put(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Copies a JSON document with another value at one place."""
    if not path:
        return value
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    copy = {key: put(child, path[1:], value) if key == path[0] else child for key, child in pairs}
    return copy if isinstance(node, dict) else list(copy.values())


RECORD = {
    **dict.fromkeys(("backend", "precision", "effective", "device", "runtime", "machine", "split", "date"), "x"),
    **{"simulated": False, "artefact_sha256": DIGEST, "n": 1, "accuracy": 0.5, "drift_points": 0.0},
    **{"agreement": 1.0, "images_per_s": 9.0, "status": "ok", "reason": ""},
}
paths = st.sampled_from(["../outside", "/etc/passwd", "models/../../outside", "link", "link/outside", "models", "."])
extremes = st.sampled_from([2**31, -(2**63), 10**400, 1e308, "\ud800", "\x1b[2J", "x" * 10_000])


@pytest.fixture
def sound(folder: Path) -> dict[str, Any]:
    """A valid manifest with all that there can be in one, beside what a wrong path in it could lead to."""
    (folder.parent / "outside").write_bytes(CONTENT["models/model.onnx"])
    (folder / "link").symlink_to(folder.parent)
    return {**json.loads((folder / MANIFEST).read_text()), "verification": [RECORD], "target_accuracy": 0.5}


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), value=json_values | paths | extremes)
def test_a_valid_manifest_with_any_value_anywhere(
    folder: Path, sound: dict[str, Any], data: st.DataObject, value: Any
) -> None:
    """A bent manifest is read, or is a BundleError; no file outside of the bundle is ever opened for it."""
    bent = sound
    for _ in range(data.draw(st.integers(1, 2))):
        bent = put(bent, data.draw(st.sampled_from(places(bent))), value)
    (folder / MANIFEST).write_text(json.dumps(bent), encoding="utf-8")
    Opened.names = []
    try:
        bundle = Bundle.load(folder)
        for artefact in bundle.artefacts:
            with suppress(BundleError, ModelError):
                bundle.read(artefact.format, artefact.precision, artefact.target)
        assert all("".join(texts(asdict(record))).isprintable() for record in bundle.verification)
    except BundleError as error:
        assert str(error).isprintable()  # noqa: PT017 - an error is one of two right outcomes
    finally:
        opened, Opened.names = Opened.names, None
    assert opened
    assert all(Path(name).resolve().is_relative_to(folder.resolve()) for name in opened), opened


def texts(record: dict[str, Any]) -> list[str]:
    return [value for value in record.values() if isinstance(value, str)]
