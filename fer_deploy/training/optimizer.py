"""Steps of a training: SGD and its learning rate, a moving average of the weights, and gradients taken ahead."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_deploy.training.checkpoint import Arrays
from fer_deploy.training.model import import_keras
from fer_deploy.training.recipe import Stage

if TYPE_CHECKING:
    import keras


def learning_rate_at(stage: Stage, progress: float) -> float:
    """Returns the learning rate: a linear warm-up from zero, a plateau, then a cosine to zero.

    Args:
        stage: With its peak, warm-up and plateau.
        progress: Epochs of the stage that are done, fractions included.
    """
    warmup = min(stage.warmup_epochs, stage.epochs)
    if progress < warmup:
        return stage.learning_rate * progress / warmup
    falling = warmup + stage.plateau * (stage.epochs - warmup)
    if progress <= falling:
        return stage.learning_rate
    share = min(1.0, (progress - falling) / (stage.epochs - falling))
    return stage.learning_rate * (1 + math.cos(math.pi * share)) / 2


def make_optimizer(stage: Stage) -> keras.optimizers.Optimizer:
    """Builds a stage's optimizer; its learning rate is set before each step, from ``learning_rate_at``.

    Args:
        stage: Its decay, momentum and average of the weights.
    """
    keras = import_keras()
    optimizer = keras.optimizers.SGD(
        stage.learning_rate,
        momentum=stage.momentum,
        nesterov=True,
        weight_decay=stage.weight_decay or None,
        use_ema=stage.average > 0,
        ema_momentum=stage.average or 0.99,
    )
    if stage.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer


@contextmanager
def ahead(optimizer: keras.optimizers.Optimizer, distance: float) -> Iterator[None]:
    """Moves the weights ahead along their momentum, by ``distance`` in the norm of all of them together, and back."""
    ops = import_keras().ops
    norm = float(sum(ops.sum(ops.square(m)) for m in optimizer.momentums)) ** 0.5 if distance else 0.0
    if not norm:  # nothing asked for, or the first step
        yield
        return
    moves = [ops.multiply(momentum, distance / norm) for momentum in optimizer.momentums]
    for variable, move in zip(optimizer._trainable_variables, moves, strict=True):
        variable.assign_add(move)
    yield
    for variable, move in zip(optimizer._trainable_variables, moves, strict=True):
        variable.assign_sub(move)


def averaged_weights(model: keras.Model, stage: Stage) -> Arrays:
    """The model's weights with the trainable ones replaced by their moving average, if the stage keeps one."""
    if not stage.average:
        return list(model.get_weights())
    optimizer = model.optimizer
    averages = dict(
        zip((v.path for v in optimizer._trainable_variables), optimizer._model_variables_moving_average, strict=True)
    )
    return as_arrays([averages.get(variable.path, variable) for variable in model.weights])


def as_arrays(variables: list[Any]) -> Arrays:
    """Copies Keras variables."""
    return [np.array(import_keras().ops.convert_to_numpy(variable)) for variable in variables]
