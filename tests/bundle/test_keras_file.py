"""A .keras file that would make Keras read other files, load other models or run code never reaches Keras."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_deploy.backends.select import open_backend
from fer_deploy.bundle.keras_file import check_config, check_keras_file, check_weights
from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.errors import ModelError


def archive(path: Path, config: Any, weights: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(config))
        file.writestr("metadata.json", "{}")
        file.writestr("model.weights.h5", weights)
    return path


def network(layer: dict[str, Any]) -> dict[str, Any]:
    """An architecture with that layer in the place of one of Keras's own."""
    inner = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 7}, "registered_name": None}
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"layers": [inner, {"module": "keras.layers", "class_name": "TimeDistributed", "config": layer}]},
        "registered_name": "Sequential",
        "compile_config": {"optimizer": {"module": "elsewhere", "class_name": "Mine", "config": {}}},  # never used
    }


def layer(name: Any, module: Any = "keras.layers", **more: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": {}, "registered_name": None, **more}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (layer("Lambda"), "a Lambda layer"),
        (layer("Lambda", module=None), "a Lambda layer"),
        ({"class_name": "__lambda__", "config": {"value": ["x", None, None]}}, "a Lambda layer"),
        (layer("TFSMLayer"), "loads another model"),
        (layer("TorchModuleWrapper"), "loads another model"),
        (layer("JaxLayer"), "runs other code"),
        (layer("StringLookup"), "reads files"),
        (layer("TextVectorization"), "reads files"),
        (layer("system", module="os"), r"os\.system"),
        (layer("Mine", module=None), r"None\.Mine"),
        (layer("Mine", module=7), r"7\.Mine"),
        (layer("Mine", module="keras_hub.layers"), r"keras_hub\.layers\.Mine"),
        (layer("Mine", module="kerasy"), r"kerasy\.Mine"),
        (layer("get_file", module="keras.utils"), r"keras\.utils\.get_file"),
        (layer("load_model", module="keras.src.saving"), r"keras\.src\.saving\.load_model"),
        (layer("load_model", module="keras"), r"keras\.load_model"),
        (layer("eval", module="builtins"), r"builtins\.eval"),
        (layer("function", module="keras.utils", config="get_file"), r"keras\.utils\.function"),
        (layer("Dense", registered_name="pkg>Mine"), "'pkg>Mine', which is registered elsewhere"),
        (layer("Dense", registered_name=["x"]), "registered elsewhere"),
        (layer(["Dense"]), r"a class called \['Dense'\]"),
        (layer("Dense", build_config={"class_name": "Lambda"}), "a Lambda layer"),
        (layer("Dense", compile_config=layer("Mine", module="x")), r"x\.Mine"),
    ],
)
def test_what_acts_or_comes_from_elsewhere_is_refused(tmp_path: Path, wrong: Any, message: str) -> None:
    path = archive(tmp_path / "model.keras", network(wrong))
    with pytest.raises(ModelError, match=message) as caught:
        check_keras_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=message):
        check_keras_file(path.read_bytes(), "the model")


@pytest.mark.parametrize(
    "right",
    [
        layer("Conv2D"),
        layer("Functional", module="keras.src.models.functional", registered_name="Functional"),
        layer("function", module="builtins", config="relu", registered_name="relu"),
        layer("Multiply", module="keras.src.ops.numpy", registered_name="Multiply"),
        layer("DTypePolicy", module="keras"),
        layer("HeNormal", module="keras.initializers"),
        {"class_name": "__keras_tensor__", "config": {"shape": [None, 7]}},
        {"module": "no class", "anything": [1, None, {"class": "Lambda"}]},
    ],
)
def test_what_networks_are_made_of_is_taken(tmp_path: Path, right: Any) -> None:
    check_keras_file(archive(tmp_path / "model.keras", network(right)))


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("metadata.json", "model.weights.h5"):
            file.writestr(name, "{}")
        file.writestr("config.json", " " * (33 << 20))
    with pytest.raises(ModelError, match="unpacks to"):
        check_keras_file(tmp_path / "model.keras")


def _link(file: Any, h5py: Any) -> None:
    file["a/b"] = h5py.ExternalLink("other.h5", "/secret")


def _outside(file: Any, h5py: Any) -> None:
    file.create_dataset("a/b", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def _virtual(file: Any, h5py: Any) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "secret", (4,))
    file.create_virtual_dataset("a/b", layout)


@pytest.mark.parametrize("point", [_link, _outside, _virtual])
def test_weights_in_another_file_are_refused(tmp_path: Path, point: Callable[[Any, Any], None]) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["fine"] = [1.0, 2.0]
        file["a/loop"] = file["a"] if "a" in file else file["/"]
        point(file, h5py)
    path = archive(tmp_path / "model.keras", network(layer("Dense")), (tmp_path / "w.h5").read_bytes())
    with pytest.raises(ModelError, match=r"keeps the weights '/a/b' in another file"):
        check_weights(path, str(path))


def test_weights_that_lie_in_the_file_are_taken(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["a/vars/0"] = [1.0, 2.0]
        file["a/again"] = h5py.SoftLink("/a/vars/0")
    path = archive(tmp_path / "model.keras", network(layer("Dense")), (tmp_path / "w.h5").read_bytes())
    check_weights(path, str(path))
    with pytest.raises(ModelError, match=r"its model\.weights\.h5 cannot be read"):
        check_weights(archive(path, network(layer("Dense")), b"no weights"), str(path))


def test_a_bundles_file_goes_through_the_same_checks(tiny_bundle: Bundle, tmp_path: Path) -> None:
    archive(tmp_path / "model.keras", network(layer("TFSMLayer")))
    bundle = replace(
        tiny_bundle, path=tmp_path, artefacts=(describe_file(tmp_path, "model.keras", "keras", "fp32", {}),)
    )
    with pytest.raises(ModelError, match=r"model\.keras needs what is not in the file: a TFSMLayer"):
        open_backend(bundle, "keras")


def packed(compression: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as file:
        for name, text in (("config.json", json.dumps(network(layer("Dense")))), ("metadata.json", "{}")):
            file.writestr(name, text)
        file.writestr("model.weights.h5", b"weights" * 9)
    return content.getvalue()


@settings(max_examples=300, deadline=None)
@given(
    sound=st.sampled_from([packed(zipfile.ZIP_STORED), packed(zipfile.ZIP_DEFLATED), packed(zipfile.ZIP_LZMA)]),
    bends=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 4), st.binary(max_size=6)), max_size=3),
)
def test_any_archive_is_taken_or_a_model_error(sound: bytes, bends: list[tuple[float, int, bytes]]) -> None:
    for at, cut, put in bends:
        place = int(at * len(sound))
        sound = sound[:place] + put + sound[place + cut :]
    with suppress(ModelError):
        check_keras_file(sound, "the model")


@settings(max_examples=200, deadline=None)
@given(
    config=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["Lambda", "keras.layers", "os"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["class_name", "module", "config", "registered_name", "x"]), inner)
        ),
        max_leaves=12,
    )
)
def test_any_architecture_is_taken_or_a_model_error(config: Any) -> None:
    try:
        check_config(config, "the model")
    except ModelError as error:
        assert str(error).isprintable()  # noqa: PT017 - an error is one of two right outcomes
