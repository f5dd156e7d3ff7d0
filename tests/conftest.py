"""Fixtures that all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_deploy.bundle.manifest import Bundle
from fer_deploy.data.probe import probe_images
from fer_deploy.faces import catalogue
from fer_deploy.faces.detector import TwoStageDetector
from fer_deploy.faces.networks import CenterFace, YuNet, is_installed

# before anything imports Keras: export and the tiny model need this backend, and a process has one only
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

YUNET_PATH = Path(os.environ.get("FER_DEPLOY_YUNET") or catalogue.YUNET.path)  # before the next fixture


@pytest.fixture(scope="session", autouse=True)
def _no_records_of_the_developers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What ``verify --record`` once found on this machine decides nothing here, nor does what was fetched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def fer2013_path() -> Path:
    """The real FER-2013; tests that take it carry the marker fer2013."""
    candidates = [os.environ.get("FER2013"), Path(__file__).parents[2] / "shared/fer2013/fer2013.zip"]
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            return Path(candidate)
    pytest.skip("no FER-2013: set FER2013 to it, or put it at ../shared/fer2013/fer2013.zip")


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Any]:
    """Returns a function that builds the 38-layer network, narrow, with seeded weights; takes build_model's options."""
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed: pip install 'fer-deploy[export]'")
    from fer_deploy.training.model import build_model

    def make(seed: int = 0, **options: Any) -> Any:
        model = build_model(**{"widths": (8, 8, 16, 16), "dense_units": 16, **options})
        _randomise_weights(model, seed)
        return model

    return make


@pytest.fixture(scope="session")
def tiny_model_path(make_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The narrow network saved as a .keras file."""
    path = tmp_path_factory.mktemp("tiny") / "model.keras"
    make_model().save(path)
    return path


@pytest.fixture(scope="session")
def tiny_bundle(tiny_model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of the tiny model, made by the real exporter. Tests that change its files work on a copy."""
    for package in ("tf2onnx", "onnx", "onnxslim"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'fer-deploy[export]'")
    from fer_deploy.exporting.exporter import export_bundle

    return export_bundle(tiny_model_path, tmp_path_factory.mktemp("bundles") / "tiny", name="tiny")


@pytest.fixture(scope="session")
def astronaut() -> Any:
    """``skimage.data.astronaut()``: uint8 (512, 512, 3), one face, at about x 180..270 and y 62..177.

    NASA's portrait of Eileen Collins, in the public domain (https://flic.kr/p/r9qvLn), as a JPEG of quality 80.
    """
    with Image.open(Path(__file__).parent / "faces/astronaut.jpg") as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="session")
def detector() -> TwoStageDetector:
    """The real one."""
    if not is_installed():
        pytest.skip("CenterFace is not installed: pip install 'fer-deploy[faces]'")
    return TwoStageDetector(CenterFace.installed())


@pytest.fixture(scope="session")
def yunet() -> TwoStageDetector:
    """The real one."""
    if not YUNET_PATH.is_file():
        pytest.skip("no YuNet: fer-deploy fetch yunet, or set FER_DEPLOY_YUNET to its file")
    return TwoStageDetector(YuNet(YUNET_PATH.read_bytes()))


@pytest.fixture(scope="session")
def yellow_grids() -> Callable[..., bytes]:
    """Returns a function that builds a network with YuNet's outputs, which takes what is yellow for faces.

    On each of its three grids a place's score is the mean red, its objectness the mean green; every face is 24 high and
    16 wide, its middle at 0.25 and 0.5 of the place, its landmarks 0, 1, 2, 3, 4 places right of it and one below it.
    """
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper

    def build(strides: tuple[int, ...] = (8, 16, 32), alive: int | None = None, names: tuple[str, ...] = ()) -> bytes:
        """Makes it with these grids, of which only ``alive`` scores, and its last outputs named differently."""
        nodes, tensors, outputs = [], [], []
        for stride, usual in zip(strides, (8, 16, 32), strict=True):
            sizes = np.log(np.array([16, 24], np.float32) / stride)
            marks = np.stack([np.arange(5), np.ones(5)], axis=-1).ravel()
            constants = {"bbox": np.concatenate([[0.25, 0.5], sizes]), "kps": marks}
            for value, channel in {"cls": 2, "obj": 1}.items():  # blue comes first
                kernel = np.zeros((1, 3, stride, stride), np.float32)
                kernel[0, channel] = (alive in (None, usual)) / (255 * stride**2)
                name = f"{value}_{usual}"
                tensors.append(numpy_helper.from_array(kernel, f"{name} kernel"))
                nodes += [
                    helper.make_node("Conv", ["input", f"{name} kernel"], [f"{name} map"], strides=[stride] * 2),
                    helper.make_node("Transpose", [f"{name} map"], [f"{name} last"], perm=[0, 2, 3, 1]),
                    helper.make_node("Reshape", [f"{name} last", "row of 1"], [name]),
                ]
            nodes.append(helper.make_node("Sub", [f"cls_{usual} last"] * 2, [f"nothing {usual}"]))
            for value, numbers in constants.items():
                name = f"{value}_{usual}"
                tensors.append(numpy_helper.from_array(numbers.astype(np.float32), f"{name} numbers"))
                nodes += [
                    helper.make_node("Add", [f"nothing {usual}", f"{name} numbers"], [f"{name} map"]),
                    helper.make_node("Reshape", [f"{name} map", f"row of {len(numbers)}"], [name]),
                ]
        for size in (1, 4, 10):
            tensors.append(numpy_helper.from_array(np.array([1, -1, size]), f"row of {size}"))
        for value, size in {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}.items():
            outputs += [helper.make_tensor_value_info(f"{value}_{s}", 1, [1, "places", size]) for s in (8, 16, 32)]
        for output, name in zip(outputs[len(outputs) - len(names) :], names, strict=True):
            nodes.append(helper.make_node("Identity", [output.name], [name]))
            output.name = name
        image = helper.make_tensor_value_info("input", 1, [1, 3, "height", "width"])
        graph = helper.make_graph(nodes, "yellow_grids", [image], outputs, tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        content: bytes = model.SerializeToString()
        return content

    return build


def _randomise_weights(model: Any, seed: int) -> None:
    """Gives every weight a seeded value away from its default, so that a folding left out or done twice shows.

    Batch normalisation gets statistics and factors as a training leaves them. The last layer is centred and
    stretched on drawn faces, so that the classes differ clearly from picture to picture.
    """
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        shapes = [weights.shape for weights in layer.get_weights()]
        if type(layer).__name__ == "BatchNormalization":
            n = shapes[0]
            statistics = [rng.normal(0, 0.5, n), rng.uniform(0.5, 2, n)]
            layer.set_weights([rng.uniform(0.5, 1.5, n), rng.normal(0, 0.3, n), *statistics])
        elif shapes:
            kernel = rng.normal(0, np.sqrt(2 / np.prod(shapes[0][:-1])), shapes[0])
            layer.set_weights([kernel, *(rng.normal(0, 0.5, shape) for shape in shapes[1:])])
    logits = np.log(np.asarray(model(probe_images().astype(np.float32), training=False), dtype=np.float64) + 1e-9)
    logits -= logits.mean(axis=1, keepdims=True)
    mean, stretch = logits.mean(axis=0), 2 / logits.std(axis=0).mean()
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel * stretch, (bias - mean) * stretch])
