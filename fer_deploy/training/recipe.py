"""Recipes: everything that decides how a training ends, as frozen dataclasses that a TOML file overrides."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fer_deploy.bundle.shipped import DEFAULT, shipped_names
from fer_deploy.errors import TrainingError
from fer_deploy.labels import IMAGE_SIZE
from fer_deploy.system.toml import build, read_toml, take_table
from fer_deploy.training.augmentation import Augmentation

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
SMALLEST_SIZE = 32
"""Pixels; with fewer, three unpadded stages leave nothing."""


@dataclass(frozen=True)
class Shape:
    """Arguments of ``build_model``; see there."""

    widths: tuple[int, ...] = (32, 64, 128, 256)
    dense_units: int = 256
    stem_stride: int = 1
    dropout: tuple[float, ...] = (0.0, 0.05, 0.1, 0.15, 0.3)
    norm_momentum: float = 0.999
    unpadded: int = 1
    head: str = "pool"


@dataclass(frozen=True)
class Stage:
    """One stretch of training with its own learning-rate cycle; it starts from where the stage before it ended.

    Args:
        epochs: Passes over the Training partition.
        batch_size: Pictures per step.
        learning_rate: Peak of the cycle: linear warm-up, a plateau, then cosine to zero.
        warmup_epochs: Length of the warm-up.
        plateau: Share of the epochs that follow it at the peak, 0 to 1.
        momentum: Of SGD, in Nesterov's form.
        weight_decay: Decoupled (each step takes ``learning_rate * weight_decay`` off), on kernels only.
        label_smoothing: Share of each label that is spread over all classes.
        class_balance: How much more a picture of a rare class counts: in proportion to its class's size to minus this
            power; 0 for all alike, 1 for as if all classes were of one size.
        sharpness: Distance that all weights together are moved ahead along their momentum while a gradient is taken, so
            that minima count which are flat so far around (Becker et al. 2024, "Momentum-SAM"); 0 for none.
        average: Momentum of the moving average of the weights, which is what is scored and kept; 0 for none.
        norm_images: Batch normalisation's statistics of what is scored and kept are taken anew from so many unchanged
            Training pictures (``training/norms.py``); 0 keeps the moving ones, of the weights that are trained and of
            augmented pictures.
        initial: A ``.keras`` file, relative to the recipe, whose weights this stage starts from.
        teachers: Bundles, by the name of a shipped one or by a path relative to the recipe, whose mean answer to each
            augmented picture is mixed into its label.
        teaching: Their share of the label, 0 to 1.
        size: Height and width that augmented pictures are scaled to, 32 to 48. Smaller ones train faster: a stage of
            36 before the one of 48 costs half of it. That of the last stage is what the trained model takes.
        augmentation: How strongly pictures are changed.
    """

    epochs: int = 38
    batch_size: int = 64
    learning_rate: float = 0.05
    warmup_epochs: float = 1.0
    plateau: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 5e-3
    label_smoothing: float = 0.1
    class_balance: float = 0.0
    sharpness: float = 0.0
    average: float = 0.999
    norm_images: int = 0
    initial: str = ""
    teachers: tuple[str, ...] = ()
    teaching: float = 0.7
    size: int = IMAGE_SIZE
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class Recipe:
    """A whole training.

    Args:
        name: What it is called in reports.
        seed: Of everything random.
        precision: Keras dtype policy; ``auto`` takes mixed_bfloat16 where the device is faster in it; a training that
            was stopped goes on in what it began in.
        max_images: Use only so many Training images (0 for all), to try things out.
        excluded: A text file, relative to the recipe, with the names of Training pictures that are not used, one per
            line (``train/label_noise`` makes one); empty for none.
        model: The network's shape.
        stages: What is done, in order.
    """

    name: str = "unnamed"
    seed: int = 0
    precision: str = "auto"
    max_images: int = 0
    excluded: str = ""
    model: Shape = field(default_factory=Shape)
    stages: tuple[Stage, ...] = (Stage(),)

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)


def load_recipe(path: Path) -> Recipe:
    """Reads a recipe.

    A file has the keys of ``Recipe``, a table ``[model]``, a table ``[augmentation]`` that holds for all stages, and
    tables ``[[stage]]``, each with an ``[stage.augmentation]`` of its own if it wants one.

    Raises:
        TrainingError: The file is unreadable, not TOML, or has an unknown key or a value of the wrong type.
    """
    raw = read_toml(path, "The recipe", TrainingError)
    try:
        return parse_recipe(raw, path)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"The recipe {path} is wrong: {error}") from error


def parse_recipe(raw: dict[str, Any], path: Path) -> Recipe:
    """Makes a recipe of what a file holds.

    Args:
        raw: As TOML has it; used up.
        path: The file, which paths in it are relative to.

    Raises:
        TypeError, ValueError: A key is unknown, or a value cannot be.
    """
    common = take_table(raw, "augmentation")
    entries = raw.pop("stage", [{}])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("stage is not a list of tables: write [[stage]]")
    stages = []
    for entry in entries:
        augmentation = build(Augmentation, {**common, **take_table(entry, "augmentation")})
        _resolve(entry, "initial", path.parent)
        if isinstance(entry.get("teachers"), list):
            entry["teachers"] = [_teacher(teacher, path.parent) for teacher in entry["teachers"]]
        stages.append(build(Stage, entry, augmentation=augmentation))
    if not stages:
        raise ValueError("it has no stage")
    raw.setdefault("name", path.stem)
    _resolve(raw, "excluded", path.parent)
    recipe = build(Recipe, raw, model=build(Shape, take_table(raw, "model")), stages=tuple(stages))
    if recipe.precision not in PRECISIONS:
        raise ValueError(f"precision is {recipe.precision!r}, expected one of {', '.join(PRECISIONS)}")
    if any(stage.epochs < 1 or stage.batch_size < 1 for stage in recipe.stages):
        raise ValueError("epochs and batch_size must be at least 1")
    if any(stage.sharpness and not (stage.momentum and stage.sharpness > 0) for stage in recipe.stages):
        raise ValueError("sharpness must be positive, and needs momentum")
    if any(not 0 <= stage.plateau < 1 for stage in recipe.stages):
        raise ValueError("plateau must be from 0 to below 1")
    if any(not 0 <= stage.augmentation.reduce <= 1 for stage in recipe.stages):
        raise ValueError("reduce must be from 0 to 1")
    if recipe.model.head != "pool" and any(stage.size != recipe.stages[-1].size for stage in recipe.stages):
        raise ValueError("stages of several sizes need the head pool: with flat, the weights belong to one size")
    if any(not 0 <= stage.teaching <= 1 for stage in recipe.stages):
        raise ValueError("teaching must be from 0 to 1")
    if not 0 <= recipe.seed < 1 << 32:
        raise ValueError("seed must be from 0 to 4294967295")
    if any(not 0 <= share < 1 for share in recipe.model.dropout):
        raise ValueError("dropout must be from 0 to below 1")
    if any(not 0 <= stage.average <= 1 for stage in recipe.stages):
        raise ValueError("average must be from 0 to 1")
    if any(stage.norm_images < 0 for stage in recipe.stages):
        raise ValueError("norm_images must not be negative")
    if any(not 1 <= low <= high <= IMAGE_SIZE for low, high in (s.augmentation.erase_size for s in recipe.stages)):
        raise ValueError(f"erase_size must be two lengths from 1 to {IMAGE_SIZE}, the smaller first")
    if any(not SMALLEST_SIZE <= stage.size <= IMAGE_SIZE for stage in recipe.stages):
        raise ValueError(f"size must be from {SMALLEST_SIZE} to {IMAGE_SIZE}")
    return recipe


def _resolve(table: dict[str, Any], key: str, folder: Path) -> None:
    """Makes a path relative to the recipe's folder an absolute one, if there is one."""
    if table.get(key) and isinstance(table[key], str):
        table[key] = str((folder / table[key]).resolve())


def _teacher(name: Any, folder: Path) -> str:
    if not isinstance(name, str):
        raise ValueError(f"a teacher is {name!r}, expected the name or path of a bundle")
    return name if name in (DEFAULT, *shipped_names()) else str((folder / name).resolve())
