"""The seven classes of FER-2013, in the order that the data set numbers them.

Written here and nowhere else: models, ONNX metadata, manifests and tables all take it from this module.
Source: Goodfellow et al. 2013, "Challenges in Representation Learning" (the ``emotion`` column of fer2013.csv).
"""

from __future__ import annotations

from typing import Final

LABELS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
NUM_CLASSES: Final = len(LABELS)

IMAGE_SIZE: Final = 48
"""Height and width of a FER-2013 picture, in pixels."""

INPUT_SHAPE: Final = (IMAGE_SIZE, IMAGE_SIZE, 1)
"""Shape of one picture as every model form takes it: height, width, one gray channel."""
