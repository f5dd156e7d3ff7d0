"""Doubtful labels: what networks that have not seen a picture think of its label."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_deploy.data.fer2013 import PUBLIC, TRAINING, Fer2013, Partition
from fer_deploy.labels import NUM_CLASSES
from fer_deploy.training.checkpoint import FILE
from fer_deploy.training.fit import Report, fit, predict
from fer_deploy.training.recipe import Recipe


def out_of_fold(
    data: Fer2013, recipe: Recipe, folds: int, output: Path, report: Report | None = None
) -> NDArray[np.float32]:
    """Trains a network per fold on all other folds, and asks each about its own.

    Args:
        data: FER-2013 with the partitions Training and PublicTest.
        recipe: Of each training; without its teachers, which have seen every label.
        folds: How many, at least 2.
        output: Gets a folder with a checkpoint per fold; what is there is gone on with.
        report: Gets progress.

    Returns:
        Probabilities for the Training pictures, shape (N, 7).

    Raises:
        TrainingError, MissingDependencyError: As ``fit``.
    """
    training, public = data.partition(TRAINING), data.partition(PUBLIC)
    stages = tuple(dataclasses.replace(stage, teachers=(), initial="") for stage in recipe.stages)
    recipe = dataclasses.replace(recipe, stages=stages)
    fold = fold_of(training, folds, recipe.seed)
    answers = np.zeros((len(training), NUM_CLASSES), np.float32)
    for number in range(folds):
        own, folder = fold == number, output / f"fold-{number}"
        others = dataclasses.replace(data, partitions={TRAINING: training.take(~own), PUBLIC: public})
        fitted = fit(others, recipe, folder, (folder / FILE).exists(), report)
        answers[own] = predict(fitted.model, training.images[own])
    return answers


def fold_of(partition: Partition, folds: int, seed: int) -> NDArray[np.int64]:
    """Draws each picture's fold, 0 to ``folds - 1``, shape (N,); copies of a picture are in one."""
    pixels = partition.images.reshape(len(partition), -1)
    _, groups = np.unique(pixels, axis=0, return_inverse=True)
    order = np.random.default_rng(seed).permutation(groups.max() + 1)
    return (order % folds)[groups]


def doubtful(answers: NDArray[np.float32], labels: NDArray[np.uint8], share: float) -> NDArray[np.bool_]:
    """Marks the pictures of each class whose label is least believed.

    That is those with the smallest margin, the label's probability less the largest other one (Northcutt et al. 2021,
    "Confident Learning: Estimating Uncertainty in Dataset Labels"); a label that is the likeliest class is not doubted.

    Args:
        answers: Probabilities, shape (N, 7), of networks that have not seen the pictures.
        labels: What the data set says, shape (N,).
        share: Of each class, 0 to 1: at most so many are marked, so that none is thinned more than the others.

    Returns:
        Mask, shape (N,).
    """
    everyone = np.arange(len(labels))
    others = answers.copy()
    others[everyone, labels] = -np.inf
    margins = answers[everyone, labels] - others.max(axis=1)
    marked = np.zeros(len(labels), np.bool_)
    for label in range(NUM_CLASSES):
        own = np.flatnonzero(labels == label)
        least = own[np.argsort(margins[own], kind="stable")][: int(share * len(own))]
        marked[least] = margins[least] < 0
    return marked
