"""Networks that are built otherwise than ours convert, and quantise, to files that answer as Keras does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fer_deploy.data.probe import probe_images
from fer_deploy.exporting.export_recipe import Quantisation
from fer_deploy.exporting.fp16 import to_fp16
from fer_deploy.exporting.int8.quantise import quantise
from fer_deploy.exporting.onnx import Toolchain, convert

ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'fer-deploy[onnx]'")


def normalised_gelu(layers: Any, x: Any) -> Any:
    """Constants that are no weights, and an operation that tf2onnx does not know."""
    return layers.Conv2D(8, 3, activation="gelu")(layers.Normalization(mean=120.0, variance=3000.0)(x))


def grouped_and_dilated(layers: Any, x: Any) -> Any:
    """A function that Keras compiles by itself, and no convolution of the usual kind."""
    x = layers.Conv2D(8, 3, dilation_rate=2, activation="relu")(layers.Rescaling(1 / 255)(x))
    return layers.Conv2D(8, 3, dilation_rate=2, groups=4)(x)


def pooled_before_relu(layers: Any, x: Any) -> Any:
    """A ReLU with no convolution beside it."""
    x = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(8, 3)(layers.Rescaling(1 / 255)(x)))
    return layers.ReLU()(layers.MaxPooling2D()(x))


def residual(layers: Any, x: Any) -> Any:
    """A convolution whose output is read before its ReLU, too."""
    x = layers.Conv2D(8, 3)(layers.Rescaling(1 / 255)(x))
    return layers.Add()([x, layers.ReLU()(x)])


def layer_normalised(layers: Any, x: Any) -> Any:
    """Means over axes, which are written otherwise from opset 18 on."""
    return layers.Conv2D(8, 3)(layers.LayerNormalization()(layers.Conv2D(8, 3)(layers.Rescaling(1 / 255)(x))))


@pytest.mark.parametrize(
    "network", [normalised_gelu, grouped_and_dilated, pooled_before_relu, residual, layer_normalised]
)
def test_other_networks(network: Any, tools: Toolchain) -> None:
    tools.keras.utils.set_random_seed(1)
    layers = tools.keras.layers
    image = layers.Input((48, 48, 1))
    pooled = layers.GlobalAveragePooling2D()(network(layers, image))
    sharp = tools.keras.initializers.RandomNormal(stddev=3.0)  # so that answers differ from picture to picture
    model = tools.keras.Model(image, layers.Dense(7, activation="softmax", kernel_initializer=sharp)(pooled))
    images = probe_images()
    keras = np.asarray(model.predict_on_batch(images.astype(np.float32)))
    assert keras.std(axis=0).max() > 0.01

    fp32 = convert(model, "0" * 64, tools)
    files = {
        "fp32": fp32,
        "fp16": to_fp16(fp32),
        **quantise(fp32, images, Quantisation(count=111), ["int8", "int8-trt"]),
    }
    for precision, allowed in (("fp32", 1e-5), ("fp16", 1e-3), ("int8", 0.01), ("int8-trt", 0.01)):
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(files[precision], options, providers=["CPUExecutionProvider"])
        found = session.run(None, {"image": images})[0]
        assert np.abs(found - keras).mean() < allowed, precision
