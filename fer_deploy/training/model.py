"""The 38-layer network: convolutional blocks A and B, then a fully connected block.

Blocks A and B hold two stages each; a stage is (convolution, batch normalisation, ReLU) twice, pooling, dropout:
2 x 2 x 8 = 32 layers. The fully connected block is global average pooling or flattening, dense, batch normalisation,
ReLU, dropout and the softmax layer: 6 more. The Input and the scaling of pixels are not counted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from fer_deploy.errors import MissingDependencyError, UsageError
from fer_deploy.labels import IMAGE_SIZE, NUM_CLASSES
from fer_deploy.system.quiet import quiet

if TYPE_CHECKING:
    import keras

NUM_LAYERS = 38
STAGE_NAMES = ("a1", "a2", "b1", "b2")
HEADS = ("pool", "flat")


def build_model(
    widths: Sequence[int] = (32, 64, 128, 256),
    dense_units: int = 256,
    stem_stride: int = 1,
    dropout: Sequence[float] = (0.0, 0.05, 0.1, 0.15, 0.3),
    norm_momentum: float = 0.99,
    unpadded: int = 1,
    head: str = "pool",
    size: int = IMAGE_SIZE,
    policy: str = "float32",
) -> keras.Model:
    """Builds the network with random weights.

    Args:
        widths: Channels of the four stages a1, a2 (block A), b1, b2 (block B).
        dense_units: Units of the hidden dense layer.
        stem_stride: Stride of the very first convolution, 1 or 2. With 2, everything after it works at 24x24 and below.
        dropout: Rates after the four stages and before the softmax layer.
        norm_momentum: Of batch normalisation's moving statistics.
        unpadded: How many stages, from the first one on, convolve without padding, 0 to 3. With 1, stage a1 takes the
            pictures from 48 to 46 to 44 pixels: every value that it computes comes from real pixels, and everything
            after it costs a sixth less.
        head: What leads from the last stage to the dense layer: ``pool``, global average pooling, or ``flat``, all
            values of the last feature map, so that the network knows where in the face a feature lies.
        size: Height and width of the images. With ``pool`` the weights are the same for every size.
        policy: Keras dtype policy of the layers (``float32``, ``mixed_bfloat16``, ``mixed_float16``); the softmax
            layer is float32 always.

    Returns:
        An uncompiled functional model. Input ``image``: float32 or uint8-valued, shape (N, size, size, 1), 0..255.
        Output ``probabilities``: float32, shape (N, 7), rows sum to 1.

    Raises:
        UsageError: The shape arguments do not describe such a network.
    """
    stages = len(STAGE_NAMES)
    fits = (len(widths), len(dropout)) == (stages, stages + 1) and stem_stride in (1, 2) and unpadded in range(4)
    if not fits or head not in HEADS:
        raise UsageError(
            "build_model takes four widths, five dropout rates, a stem stride of 1 or 2, 0 to 3 unpadded stages and "
            f"the head pool or flat; got widths {tuple(widths)}, dropout {tuple(dropout)}, stem stride {stem_stride}, "
            f"unpadded {unpadded}, head {head!r:.40}"
        )
    keras = import_keras()
    layers = keras.layers
    kernel = {"use_bias": False, "kernel_initializer": "he_normal", "dtype": policy}
    norm = {"momentum": norm_momentum, "epsilon": 1e-5, "dtype": policy}
    inputs = layers.Input((size, size, 1), name="image")
    x = layers.Rescaling(1 / 64, offset=-2.0, name="scale", dtype=policy)(inputs)
    for stage, (name, width, rate) in enumerate(zip(STAGE_NAMES, widths, dropout, strict=False)):
        for n in (1, 2):
            stride = stem_stride if stage == 0 and n == 1 else 1
            padding = "valid" if stage < unpadded else "same"
            x = layers.Conv2D(width, 3, stride, padding, name=f"{name}_conv{n}", **kernel)(x)
            x = layers.BatchNormalization(name=f"{name}_norm{n}", **norm)(x)
            x = layers.ReLU(name=f"{name}_relu{n}", dtype=policy)(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"{name}_pool", dtype=policy)(x)
        x = layers.Dropout(rate, name=f"{name}_drop", dtype=policy)(x)
    if head == "flat":
        x = layers.Flatten(name="fc_flat", dtype=policy)(x)
    else:
        x = layers.GlobalAveragePooling2D(name="fc_pool", dtype=policy)(x)
    x = layers.Dense(dense_units, name="fc_dense", **kernel)(x)
    x = layers.BatchNormalization(name="fc_norm", **norm)(x)
    x = layers.ReLU(name="fc_relu", dtype=policy)(x)
    x = layers.Dropout(dropout[-1], name="fc_drop", dtype=policy)(x)
    outputs = layers.Dense(NUM_CLASSES, activation="softmax", name="probabilities", dtype="float32")(x)
    return keras.Model(inputs, outputs, name="fer38")


def count_layers(model: keras.Model) -> int:
    """Counts a model's layers, the Input and the scaling of pixels left out."""
    kinds = [type(layer).__name__ for layer in model.layers]
    return sum(kind not in ("InputLayer", "Rescaling") for kind in kinds)


@cache
def import_keras() -> Any:
    """Imports Keras 3, without what its framework has to say at its start.

    Raises:
        MissingDependencyError: Keras, or the framework that it is set to use, is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # PyTorch's threads spin while they wait for one another, and so take the cores of those who make the next batch.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        with quiet():
            import keras
    except ImportError as error:
        raise MissingDependencyError("Keras with TensorFlow, JAX or PyTorch", "fer-deploy[train]") from error
    return keras
