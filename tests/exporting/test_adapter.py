"""A wrapped network gives what its owner's own preprocessing and class names give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.data.probe import probe_images
from fer_deploy.errors import ModelError
from fer_deploy.exporting.adapter import check_model_file, load_keras_file
from fer_deploy.exporting.contract import ModelContract, model_contract
from fer_deploy.exporting.exporter import export_bundle
from fer_deploy.exporting.onnx import Toolchain, convert
from fer_deploy.labels import LABELS

for package in ("tensorflow", "tf2onnx", "onnx", "onnxslim"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'fer-deploy[export]'")

OURS = ",".join(LABELS)
PLAIN = {"scale": "-1,1", "classes": OURS, "input_size": "64x64"}
NETWORKS: dict[str, dict[str, Any]] = {
    "64x64, -1..1": PLAIN,
    "64x64 rounded, other order": {**PLAIN, "round_pixels": True, "classes": ",".join(reversed(LABELS))},
    "48x48x3, 0..1": {"scale": "0,1", "classes": OURS, "channels": 3},
    "40x56x3, mean and std, logits, nine outputs": {
        "scale": "0,1",
        "classes": "neutral,happiness,surprise,sadness,anger,disgust,fear,-,-",
        "input_size": "40x56",
        "channels": 3,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "logits": True,
    },
}


def contract_of(options: dict[str, Any]) -> ModelContract:
    contract = model_contract(**options)
    assert contract is not None
    return contract


def make_network(contract: ModelContract, tools: Toolchain, name: str = "their") -> Any:
    """Makes a small seeded network of those shapes, built with lists of one as old files are."""
    layers = tools.keras.layers
    tools.keras.utils.set_random_seed(3)
    image = layers.Input((*contract.input_size, contract.channels))
    x = layers.Conv2D(8, 3, strides=2, use_bias=False)(image)
    x = layers.SeparableConv2D(8, 3, padding="same", use_bias=False)(layers.BatchNormalization()(x))
    x = layers.Add()([layers.MaxPooling2D(3, 1, "same")(x), x])
    # centred, so that classes differ from picture to picture
    x = layers.BatchNormalization(center=False, momentum=0)(layers.GlobalAveragePooling2D()(layers.ReLU()(x)))
    x = layers.Dense(len(contract.classes), activation=None if contract.logits else "softmax")(x)
    model = tools.keras.Model([image], [x], name=name)
    model([prepare(probe_images()[:64, :, :, 0], contract)], training=True)
    return model


def prepare(images: Any, contract: ModelContract) -> Any:
    """What the network's owner does by hand, in NumPy; uint8 (N, 48, 48) -> float32 (N, height, width, channels)."""
    x = images.astype(np.float64)
    for axis, size in ((1, contract.input_size[0]), (2, contract.input_size[1])):
        place = np.clip((np.arange(size) + 0.5) * 48 / size - 0.5, 0, 47)
        low = np.minimum(place.astype(int), 46)
        share = (place - low).reshape((-1, 1) if axis == 1 else (1, -1))
        x = x.take(low, axis) * (1 - share) + x.take(low + 1, axis) * share
    x = np.rint(x) if contract.round_pixels else x
    x = (contract.scale[0] + x / 255 * (contract.scale[1] - contract.scale[0]))[..., None]
    x = (x.repeat(contract.channels, -1) - (contract.mean or (0,))) / (contract.std or (1,))
    return x.astype(np.float32)


def by_hand(model: Any, images: Any, contract: ModelContract) -> Any:
    """The owner's own answers, in FER-2013's order."""
    found = np.asarray(model([prepare(images[..., 0], contract)], training=False), dtype=np.float64)
    if contract.logits:
        found = np.exp(found - found.max(axis=1, keepdims=True))
    found = found[:, [contract.classes.index(name) for name in LABELS]]
    return found / found.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS.keys())
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_same_as_by_hand(tools: Toolchain, tmp_path: Path, options: dict[str, Any], suffix: str) -> None:
    contract = contract_of(options)
    theirs = make_network(contract, tools)
    path = tmp_path / f"their{suffix}"
    theirs.save(path)
    check_model_file(path)
    loaded = load_keras_file(path, tools, contract)
    assert (loaded.changed, loaded.network) == (True, contract)
    images = probe_images()[::3]
    expected = by_hand(theirs, images, contract)
    assert len(set(expected.argmax(axis=1))) > 1  # else a wrong order could not show
    found = np.asarray(loaded.model(images.astype(np.float32), training=False))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    found = np.asarray(loaded.model(images.astype(np.float32)))  # nor is it in training mode unless asked to be
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    if suffix == ".keras":
        assert_onnx_gives(convert(loaded.model, "0" * 64, tools), images, expected)


def assert_onnx_gives(file: bytes, images: Any, expected: Any, tolerance: float = 1e-5) -> None:
    onnxruntime = pytest.importorskip(
        "onnxruntime", reason="onnxruntime is not installed: pip install 'fer-deploy[onnx]'"
    )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"image": images})[0], expected, rtol=0, atol=tolerance)


def test_scaling_and_channels_cost_nothing(tools: Toolchain) -> None:
    from fer_deploy.exporting.adapter import wrap

    contract = contract_of({**PLAIN, "channels": 3, "round_pixels": True})
    model = wrap(Path("their.keras"), make_network(contract, tools), contract, tools)
    proto = tools.onnx.load_from_string(convert(model, "0" * 64, tools))
    kinds = [node.op_type for node in proto.graph.node]
    assert set(kinds[: kinds.index("Conv")]) == {"Cast", "Reshape", "Resize", "Round", "Transpose"}


def test_resized_pixels_stay_whole_in_every_precision(tools: Toolchain) -> None:
    """fp16 resizes and rounds in float32, since halves would round other pixels; INT8 holds 0..255 without loss."""
    from fer_deploy.exporting.adapter import wrap
    from fer_deploy.exporting.fp16 import to_fp16
    from fer_deploy.exporting.int8.graph import Graph

    contract = contract_of({**PLAIN, "round_pixels": True})
    model = wrap(Path("their.keras"), make_network(contract, tools), contract, tools)
    file = convert(model, "0" * 64, tools)
    graph = Graph(tools.onnx.load_from_string(file).graph)
    assert graph.pixel_offset(graph.convolutions()[0].source) == 0
    half = to_fp16(file)
    kinds = [node.op_type for node in tools.onnx.load_from_string(half).graph.node]
    assert kinds.index("Resize") < kinds.index("Round") < kinds.index("Cast", 1) < kinds.index("Conv")
    images = probe_images()
    expected = np.asarray(model(images.astype(np.float32), training=False))
    assert_onnx_gives(half, images, expected, tolerance=0.01)


def test_bundle_of_a_foreign_network(tools: Toolchain, tmp_path: Path) -> None:
    """From file to bundle; export compares the saved Keras file with ONNX on every runtime."""
    contract = contract_of({**NETWORKS["64x64 rounded, other order"]})
    theirs = make_network(contract, tools)
    theirs.save(tmp_path / "their.keras")
    bundle = export_bundle(tmp_path / "their.keras", tmp_path / "bundle", network=contract)
    keras = bundle.find("keras")
    assert keras is not None
    assert keras.made_with["network"]["classes"] == list(reversed(LABELS))
    assert keras.made_with["network"]["input_size"] == [64, 64]
    saved = tools.keras.saving.load_model(bundle.path / keras.file, compile=False, safe_mode=True)
    images = probe_images()[:8]
    expected = by_hand(theirs, images, contract)
    np.testing.assert_allclose(np.asarray(saved(images.astype(np.float32))), expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_old_file_of_our_own_contract(tools: Toolchain, tmp_path: Path) -> None:
    """Its lists of one tensor become tensors, which is what backends and the converter take."""
    model = make_network(ModelContract((0, 255), LABELS), tools)
    model.save(tmp_path / "ours.h5")
    old = tools.keras.saving.load_model(tmp_path / "ours.h5", compile=False)
    assert isinstance(old.output, list)  # else this test shows nothing
    loaded = load_keras_file(tmp_path / "ours.h5", tools)
    assert loaded.changed
    images = probe_images()[:4].astype(np.float32)
    np.testing.assert_array_equal(np.asarray(loaded.model.predict(images, verbose=0)), np.asarray(model([images])))


@pytest.mark.parametrize(
    ("made", "stated", "message"),
    [
        ({}, {"input_size": "48x48"}, r"takes \(None, 64, 64, 1\), not \(None, 48, 48, 1\).*pass --input-size 64x64"),
        (
            {},
            {"channels": 3},
            r"not \(None, 64, 64, 3\) as --input-size 64x64 and --channels 3 say: .*--channels 1",
        ),
        ({"classes": OURS + ",-"}, {}, r"gives \(None, 8\), and --classes names 7 outputs"),
        ({"logits": True}, {}, "gives no probabilities: .*Pass --logits"),
        ({}, {"logits": True}, "gives probabilities already.*Pass no --logits"),
    ],
)
def test_what_was_stated_must_fit(
    tools: Toolchain, tmp_path: Path, made: dict[str, Any], stated: dict[str, Any], message: str
) -> None:
    path = tmp_path / "their.keras"
    make_network(contract_of({**PLAIN, **made}), tools).save(path)
    with pytest.raises(ModelError, match=message) as caught:
        load_keras_file(path, tools, contract_of({**PLAIN, **stated}))
    assert "\n" not in str(caught.value)


def test_without_options_the_error_says_which_to_pass(tools: Toolchain, tmp_path: Path) -> None:
    path = tmp_path / "their.keras"
    make_network(contract_of({**PLAIN, "classes": OURS + ",-"}), tools).save(path)
    with pytest.raises(ModelError, match=r"takes \(None, 64, 64, 1\).*pass --input-size 64x64 --channels 1 --scale"):
        load_keras_file(path, tools)


def test_networks_that_cannot_be_wrapped(tools: Toolchain, tmp_path: Path) -> None:
    layers = tools.keras.layers
    path = tmp_path / "their.keras"
    pair = [layers.Input((64, 64, 1)), layers.Input((64, 64, 1))]
    outputs = layers.Dense(7, activation="softmax")(layers.Flatten()(layers.Add()(pair)))
    tools.keras.Model(pair, outputs).save(path)
    with pytest.raises(ModelError, match="networks of one input"):
        load_keras_file(path, tools, contract_of(PLAIN))


def test_free_height_and_width_are_taken_as_stated(tools: Toolchain, tmp_path: Path) -> None:
    layers = tools.keras.layers
    path = tmp_path / "their.keras"
    stack = [layers.Input((None, None, 1)), layers.Conv2D(7, 3), layers.GlobalAveragePooling2D(), layers.Softmax()]
    tools.keras.Sequential(stack).save(path)
    model = load_keras_file(path, tools, contract_of(PLAIN)).model
    assert model(probe_images()[:2].astype(np.float32)).shape == (2, 7)
    with pytest.raises(ModelError, match="pass --input-size HEIGHTxWIDTH"):
        load_keras_file(path, tools)
