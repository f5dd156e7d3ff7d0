#!/usr/bin/env python3
"""Writes the layers of networks whose weights are fetched from elsewhere as ONNX files with random weights.

    networks.py FOLDER      # in the environment `keras`; makes deepface.onnx and hsemotion.onnx

Speed is that of the real ones, since it depends on the layers alone; answers mean nothing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def deepface() -> Any:
    """The emotion CNN as deepface builds it (`models/demography/Emotion.py`): 48x48 gray, 0..1."""
    from keras import Sequential, layers

    return Sequential(
        [
            layers.Input((48, 48, 1)),
            layers.Conv2D(64, 5, activation="relu"),
            layers.MaxPooling2D(5, strides=2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.AveragePooling2D(3, strides=2),
            layers.Conv2D(128, 3, activation="relu"),
            layers.Conv2D(128, 3, activation="relu"),
            layers.AveragePooling2D(3, strides=2),
            layers.Flatten(),
            layers.Dense(1024, activation="relu"),
            layers.Dense(1024, activation="relu"),
            layers.Dense(7, activation="softmax"),
        ]
    )


def hsemotion() -> Any:
    """EfficientNet-B0 at 224 px with eight classes, as HSEmotion and EmotiEffLib use it; scaled pixels come in."""
    from keras import Model
    from keras.applications import EfficientNetB0

    model = EfficientNetB0(weights=None, input_shape=(224, 224, 3), classes=8)
    return Model(model.get_layer("stem_conv_pad").input, model.output)


def main() -> None:
    import tensorflow as tf
    import tf2onnx

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for build in (deepface, hsemotion):
        model = build()
        signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="image")]
        call = tf.function(lambda x, model=model: model(x, training=False), input_signature=signature)
        path = folder / f"{build.__name__}.onnx"
        tf2onnx.convert.from_function(call, signature, opset=17, output_path=str(path))
        print(f"{path}: {model.count_params():,} parameters, random")


if __name__ == "__main__":
    main()
