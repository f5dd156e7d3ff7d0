"""Teachers: what they add to a label, what a training with them records, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_deploy.backends.select import open_backend
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.data.fer2013 import Partition
from fer_deploy.errors import TrainingError
from fer_deploy.training.batches import epoch_batches
from fer_deploy.training.recipe import Stage, load_recipe
from fer_deploy.training.teachers import Teachers


@pytest.fixture(scope="module")
def partition() -> Partition:
    random = np.random.default_rng(3)
    images = random.integers(0, 256, (24, 48, 48)).astype(np.uint8)
    return Partition(images, random.integers(0, 7, 24).astype(np.uint8), tuple(map(str, range(24))))


def test_labels_are_mixed_with_what_the_teachers_see(tiny_bundle: Bundle, partition: Partition) -> None:
    stage = Stage(batch_size=8, label_smoothing=0.0, teaching=0.25)
    names = [str(tiny_bundle.path), "default"]
    with Teachers(names) as teachers, Teachers([]) as nobody:
        taught = list(epoch_batches(partition, stage, (1, 2), teachers, workers=2))
        alone = list(epoch_batches(partition, stage, (1, 2), nobody))
    with open_backend(tiny_bundle) as first, open_backend(Bundle.load()) as second:
        for (images, labels), (same, one_hot) in zip(taught, alone, strict=True):
            np.testing.assert_array_equal(images, same)
            faces = np.clip(np.rint(images), 0, 255).astype(np.uint8)
            flipped = np.ascontiguousarray(faces[:, :, ::-1])
            seen = sum(teacher.run(view) for teacher in (first, second) for view in (faces, flipped)) / 4
            np.testing.assert_allclose(labels, 0.75 * one_hot + 0.25 * seen, atol=1e-5)
            assert set(np.unique(one_hot)) == {0, 1}


def test_smoothed_labels_sum_to_one(partition: Partition) -> None:
    with Teachers([]) as nobody:
        _, labels = next(epoch_batches(partition, Stage(batch_size=8, label_smoothing=0.1), (1,), nobody))
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.sort(labels, axis=1)[:, [0, -1]], [[0.1 / 7, 0.9 + 0.1 / 7]] * 8, atol=1e-6)


def test_what_is_no_bundle_is_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"A teacher cannot be used.*is not a bundle"):
        Teachers([str(tmp_path)])


def test_recipes_name_teachers_relative_to_themselves(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text('[[stage]]\nteachers = ["default", "../big/bundle"]\nteaching = 0.5\n')
    (stage,) = load_recipe(recipe).stages
    assert stage.teachers == ("default", str((tmp_path / "../big/bundle").resolve()))


@pytest.mark.parametrize("line", ["teachers = [1]", 'teachers = "default"', "teaching = 1.5"])
def test_wrong_teachers_in_a_recipe(tmp_path: Path, line: str) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(f"[[stage]]\n{line}\n")
    with pytest.raises(TrainingError, match="teach"):
        load_recipe(recipe)
