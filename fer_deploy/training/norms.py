"""Batch normalisation's statistics, taken anew for weights that were not the ones trained with.

While a network trains, these statistics follow its current weights and the augmented pictures. The weights that are
kept are an average over many steps, and the pictures to come are not augmented. So the statistics are computed once
more for that average, as Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization",
do for theirs, but from pictures in which nothing was changed.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

BATCH_SIZE = 128


def renew_norms(model: keras.Model, pictures: NDArray[np.float32], batch_size: int = BATCH_SIZE) -> None:
    """Replaces every moving mean and variance by the mean over batches of what a batch has.

    Args:
        model: float32 and without dropout, which would change what the layers after it see.
        pictures: As the model takes them, shape (N, size, size, 1), in an order drawn by chance; what is left over
            after whole batches is not used, unless there is no whole one.
        batch_size: Pictures of which one mean and variance are taken.
    """
    import keras

    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for number in range(max(1, len(pictures) // batch_size)):
        for norm in norms:
            norm.momentum = number / (number + 1)  # the mean of all batches so far
        with _without_gradients():
            model(keras.ops.convert_to_tensor(pictures[number * batch_size :][:batch_size]), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _without_gradients() -> AbstractContextManager[Any]:
    import keras

    if keras.backend.backend() != "torch":
        return nullcontext()
    import torch

    context: AbstractContextManager[Any] = torch.no_grad()
    return context
