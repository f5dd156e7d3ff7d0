"""Doubtful labels: folds without copies across them, which labels are doubted, and the script on wrong labels."""

from __future__ import annotations

import csv
import dataclasses
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.data.fer2013 import PUBLIC, TRAINING, Partition
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.labels import LABELS
from fer_deploy.training.recipe import load_recipe

pytest.importorskip("keras")

from fer_deploy.training.fit import fit, predict
from fer_deploy.training.label_noise import doubtful, fold_of

ROOT = Path(__file__).parents[2]
RECIPE = """
precision = "float32"
[model]
widths = [4, 4, 8, 8]
dense_units = 8
norm_momentum = 0.9
[augmentation]
flip = false
rotation = 0.0
zoom = 0.0
shift = 0.0
contrast = 0.0
brightness = 0.0
erase = 0.0
[[stage]]
batch_size = 8
learning_rate = 0.03
average = 0.0
teachers = ["fast"]
"""


def _striped(n: int, seed: int) -> Partition:
    """Pictures that a small network tells apart: class k has a bright stripe at one of seven heights."""
    random = np.random.default_rng(seed)
    labels = (np.arange(n) % 7).astype(np.uint8)
    images = random.integers(0, 80, (n, 48, 48)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[6 * label + 2 : 6 * label + 8] += 160
    return Partition(images, labels, tuple(f"p{i}" for i in range(n)))


def test_copies_are_in_one_fold_and_folds_are_alike_in_size() -> None:
    partition = _striped(90, 0)
    doubled = partition.take(np.r_[0:90, 0:30])
    fold = fold_of(doubled, 3, seed=5)
    np.testing.assert_array_equal(fold[90:], fold[:30])
    assert np.bincount(fold[:90]).tolist() == [30, 30, 30]
    assert (fold_of(doubled, 3, seed=6) != fold).any()


def test_the_least_believed_of_each_class_are_doubted() -> None:
    answers = np.full((8, 7), 0.05, np.float32)
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.uint8)
    for i, (own, other) in enumerate(
        [(0.6, 0.2), (0.2, 0.6), (0.1, 0.7), (0.4, 0.3), (0.7, 0.1), (0.5, 0.4), (0.1, 0.4), (0.6, 0.3)]
    ):
        answers[i, labels[i]], answers[i, 2] = own, other
    assert np.flatnonzero(doubtful(answers, labels, 0.25)).tolist() == [2, 6]
    assert np.flatnonzero(doubtful(answers, labels, 0.9)).tolist() == [1, 2, 6]  # a likeliest class is not doubted
    assert not doubtful(answers, labels, 0.2).any()  # less than one of each class
    assert answers[0, 0] == np.float32(0.6)  # what was given stays


def test_the_script_finds_wrong_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training, public = _striped(280, 0), _striped(28, 1)
    wrong = np.arange(0, 280, 20)
    labels = training.labels.copy()
    labels[wrong] = (labels[wrong] + 3) % 7
    rows = [
        f"{label},{' '.join(map(str, image.ravel()))},{usage}"
        for usage, part, part_labels in ((TRAINING, training, labels), (PUBLIC, public, public.labels))
        for image, label in zip(part.images, part_labels, strict=True)
    ]
    (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n")
    (tmp_path / "small.toml").write_text(RECIPE)
    line = ["train/label_noise.py", "--data", str(tmp_path / "fer2013.csv"), "--recipe", str(tmp_path / "small.toml")]
    line += ["--output", str(tmp_path / "out"), "--folds", "2", "--epochs", "8", "--share", "0.1"]
    monkeypatch.setattr(sys, "argv", line)
    runpy.run_path(str(ROOT / "train/label_noise.py"))["main"]()
    told = capsys.readouterr().out
    assert told.count("public ") == 16
    with (tmp_path / "out/label_noise.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["label"] for row in table] == [LABELS[label] for label in labels]
    names = (tmp_path / "out/excluded.txt").read_text().split()
    assert names == [row["name"] for row in table if row["excluded"] == "1"]
    assert f"{len(names)} are left out" in told
    assert len({table[i]["name"] for i in wrong} & set(names)) >= 12

    data, recipe = load_fer2013(tmp_path / "fer2013.csv"), load_recipe(tmp_path / "small.toml")
    whole = data.partition(TRAINING)
    own = fold_of(whole, 2, recipe.seed) == 1
    others = dataclasses.replace(data, partitions={**data.partitions, TRAINING: whole.take(~own)})
    untaught = dataclasses.replace(recipe, stages=(dataclasses.replace(recipe.stages[0], teachers=(), epochs=8),))
    model = fit(others, untaught, tmp_path / "one").model  # has not seen its fold, nor the teacher who saw all
    answers = np.array([[row[label] for label in LABELS] for row in table], np.float32)
    np.testing.assert_allclose(answers[own], predict(model, whole.images[own]), atol=1e-4)
