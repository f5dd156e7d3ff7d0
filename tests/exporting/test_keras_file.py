"""A .keras file is refused with one line that says what is wrong, or comes out in float32."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.bundle.keras_file import check_keras_file
from fer_deploy.errors import ModelError
from fer_deploy.exporting.adapter import load_keras_file
from fer_deploy.exporting.onnx import Toolchain

pytest.importorskip("tensorflow", reason="TensorFlow is not installed: pip install 'fer-deploy[export]'")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a Keras file"),
        (b"just text", "not a Keras file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is HDF5"),
        (b"PK\x03\x04" + bytes(100), "truncated or damaged"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        check_keras_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        check_keras_file(tmp_path / "model.keras")
    with pytest.raises(ModelError, match="Is a directory"):
        check_keras_file(tmp_path)


def test_another_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"")
    with pytest.raises(ModelError, match=r"lacks config\.json, metadata\.json, model\.weights\.h5"):
        check_keras_file(path)


@pytest.mark.parametrize("config", ["{", "[" * 100_000, '"\ud800'])
def test_damaged_architecture_is_refused(tmp_path: Path, config: str) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("metadata.json", "model.weights.h5"):
            archive.writestr(name, "{}")
        archive.writestr("config.json", config.encode(errors="surrogatepass"))
    with pytest.raises(ModelError, match="not valid JSON"):
        check_keras_file(path)


@pytest.mark.parametrize("config", ["[]", "{}", "null", '{"class_name": "Functional"}'])
def test_architecture_that_is_no_model_is_refused(tmp_path: Path, tools: Toolchain, config: str) -> None:
    import h5py

    h5py.File(tmp_path / "empty.h5", "w").close()
    no_weights = (tmp_path / "empty.h5").read_bytes()
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"metadata.json": "{}", "model.weights.h5": no_weights, "config.json": config}.items():
            archive.writestr(name, content)
    check_keras_file(path)
    with pytest.raises(ModelError, match="cannot be loaded by Keras"):
        load_keras_file(path, tools)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused(tmp_path: Path, tiny_model_path: Path, kept: float) -> None:
    content = tiny_model_path.read_bytes()
    path = tmp_path / "model.keras"
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ModelError, match="truncated or damaged"):
        check_keras_file(path)


def test_flipped_byte_is_refused(tmp_path: Path, tiny_model_path: Path) -> None:
    content = bytearray(tiny_model_path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"checksum of model\.weights\.h5"):
        check_keras_file(path)


def test_lambda_is_refused_by_name(tmp_path: Path, tools: Toolchain) -> None:
    layers = tools.keras.layers
    path = tmp_path / "model.keras"
    tools.keras.Sequential([layers.Input((48, 48, 1)), layers.Lambda(lambda x: x)]).save(path)
    with pytest.raises(ModelError, match="a Lambda layer"):
        check_keras_file(path)


def test_custom_layer_is_refused_by_name(tmp_path: Path, tools: Toolchain) -> None:
    @tools.keras.saving.register_keras_serializable(package="elsewhere")
    class Twice(tools.keras.layers.Layer):  # type: ignore[name-defined, misc]
        def call(self, x: Any) -> Any:
            return x * 2

    path = tmp_path / "model.keras"
    tools.keras.Sequential([tools.keras.layers.Input((48, 48, 1)), Twice()]).save(path)
    with pytest.raises(ModelError, match=r"elsewhere.*Twice|Twice"):
        check_keras_file(path)


@pytest.mark.parametrize(
    ("shape", "units", "message"),
    [
        ((48, 48, 3), 7, r"takes \(None, 48, 48, 3\); the contract is one input of shape \(None, 48, 48, 1\)"),
        ((64, 64, 1), 7, r"takes \(None, 64, 64, 1\)"),
        ((48, 48, 1), 5, r"gives \(None, 5\).*one output of shape \(None, 7\)"),
    ],
)
def test_other_shapes_are_refused(
    tmp_path: Path, tools: Toolchain, shape: tuple[int, ...], units: int, message: str
) -> None:
    layers = tools.keras.layers
    path = tmp_path / "model.keras"
    tools.keras.Sequential([layers.Input(shape), layers.Flatten(), layers.Dense(units)]).save(path)
    with pytest.raises(ModelError, match=message):
        load_keras_file(path, tools)


def test_two_inputs_and_no_known_input_are_refused(tmp_path: Path, tools: Toolchain) -> None:
    layers = tools.keras.layers
    path = tmp_path / "model.keras"
    pair = [layers.Input((48, 48, 1)), layers.Input((48, 48, 1))]
    tools.keras.Model(pair, layers.Dense(7)(layers.Flatten()(layers.Add()(pair)))).save(path)
    with pytest.raises(ModelError, match=r"takes \(None, 48, 48, 1\) and \(None, 48, 48, 1\)"):
        load_keras_file(path, tools)
    tools.keras.Sequential([layers.Dense(7)]).save(path)
    with pytest.raises(ModelError, match="takes nothing of a known shape"):
        load_keras_file(path, tools)


def test_float32_model_is_taken_as_it_is(tiny_model_path: Path, tools: Toolchain) -> None:
    assert load_keras_file(tiny_model_path, tools).saved_policies == ()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_reduced_precision_is_rebuilt_in_float32(
    tmp_path: Path, tools: Toolchain, make_model: Callable[..., Any], policy: str
) -> None:
    path = tmp_path / "model.keras"
    reduced = make_model(policy=policy)
    reduced.save(path)
    loaded = load_keras_file(path, tools)
    assert loaded.saved_policies == (policy,)
    assert {layer.compute_dtype for layer in loaded.model.layers} == {"float32"}
    for before, after in zip(reduced.get_weights(), loaded.model.get_weights(), strict=True):
        assert after.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(before, dtype=np.float32), after)
