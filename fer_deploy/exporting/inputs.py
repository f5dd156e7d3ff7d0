"""What an export is given besides the model: which precisions to make, and pictures to calibrate and compare on.

Pictures that INT8 ranges are measured on: a seeded sample of Training, alike from every class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_deploy.bundle.manifest import PRECISIONS
from fer_deploy.data.fer2013 import PRIVATE, PUBLIC, TEST, TRAINING, Fer2013, Partition
from fer_deploy.errors import MissingDependencyError, UsageError
from fer_deploy.exporting.export_recipe import ExportRecipe
from fer_deploy.exporting.int8.graph import CPU, TENSORRT
from fer_deploy.exporting.parity import ImageSet, parity_images
from fer_deploy.labels import NUM_CLASSES

ALL: Final = "all"
_NEEDS: Final = "INT8 needs Training pictures to calibrate with: give FER-2013 with --calibration or --data"
_NO_PUBLIC: Final = "A temperature is fitted on PublicTest, and {}: give FER-2013 with its published names with --data"
_INSTALL: Final = ("fer-deploy[export,onnx]", "fer-deploy[export,gpu]")


class LabelledImages(NamedTuple):
    """Pictures, uint8, shape (N, 48, 48, 1), and their labels, uint8, shape (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class ExportInputs:
    """All that an export needs besides the model.

    Args:
        precisions: What is made, fp32 first.
        calibration: Pictures to calibrate INT8 with; None where none is made.
        images: What to compare on.
        tests: Test partition -> pictures and labels: Keras's answers to them are recorded.
        recipe: How INT8 is made.
    """

    precisions: tuple[str, ...]
    calibration: Calibration | None
    images: ImageSet
    tests: Mapping[str, LabelledImages]
    recipe: ExportRecipe


def parse_precisions(text: str) -> tuple[str, ...] | None:
    """Reads ``all`` (None: all that can be made) or precisions with commas between them.

    Raises:
        UsageError: One is unknown.
    """
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in (*PRECISIONS, ALL)]
    if unknown:
        raise UsageError(f"There is no precision {unknown[0]!r:.40}; there are: {', '.join(PRECISIONS)}, and all")
    return None if ALL in names else tuple(names)


def gather(
    precisions: Sequence[str] | None,
    data: str | Path | None,
    calibration: str | Path | None,
    force_calibration: bool,
    recipe: ExportRecipe,
    report: Callable[[str], None],
) -> ExportInputs:
    """Reads the data sets and decides what can be made; arguments as those of ``export_bundle``.

    Raises:
        UsageError: A precision is unknown, or INT8 is asked for without pictures to calibrate it on, or a temperature
            without those that it is fitted on.
        MissingDependencyError: INT8 is asked for without ONNX Runtime, which quantises.
        DataError: A data set is not FER-2013.
    """
    unknown = [name for name in precisions or () if name not in PRECISIONS]
    if unknown:
        raise UsageError(f"There is no precision {unknown[0]!r:.40}; there are: {', '.join(PRECISIONS)}")
    wanted = tuple(name for name in PRECISIONS if name in (precisions or PRECISIONS) or name == "fp32")
    dataset = _load(data, report)
    drawn, reason = None, ""
    if {CPU, TENSORRT} & set(wanted):
        drawn, reason = _calibration(dataset, data, calibration, force_calibration, recipe, report)
    if reason:
        if precisions is not None:
            raise UsageError(reason)
        report(f"Left out: {CPU}, {TENSORRT}. {reason}")
        wanted = tuple(name for name in wanted if name not in (CPU, TENSORRT))
    if drawn is not None and find_spec("onnxruntime") is None:
        missing = MissingDependencyError("What an INT8 export needs (onnxruntime)", *_INSTALL)
        if precisions is not None:
            raise missing
        report(f"Left out: {CPU}, {TENSORRT}. {missing}")
        wanted, drawn = tuple(name for name in wanted if name not in (CPU, TENSORRT)), None
    tests = {} if dataset is None else {name: dataset.partitions[name] for name in _tests(dataset)}
    if recipe.fit_temperature and PUBLIC not in tests:
        raise UsageError(
            _NO_PUBLIC.format(f"{data} has none that can be told from PrivateTest" if data else "there is none")
        )
    labelled = {
        name: LabelledImages(np.ascontiguousarray(partition.images[..., None]), partition.labels)
        for name, partition in tests.items()
    }
    return ExportInputs(wanted, drawn, parity_images(dataset), labelled, recipe)


def with_target(recipe: ExportRecipe, percent: float | None) -> ExportRecipe:
    """The recipe with another accuracy to hold the bundle to, in percent; as it is where None.

    Raises:
        UsageError: It is no percentage.
    """
    if percent is None:
        return recipe
    try:
        return dataclasses.replace(recipe, target_accuracy=percent)
    except ValueError as error:
        raise UsageError(f"--target-accuracy is wrong: {error}") from error


def with_count(recipe: ExportRecipe, count: int | None) -> ExportRecipe:
    """The recipe with another number of calibration pictures; as it is where None.

    Raises:
        UsageError: It is no such number.
    """
    if count is None:
        return recipe
    try:
        return dataclasses.replace(recipe, int8=dataclasses.replace(recipe.int8, count=count))
    except ValueError as error:
        raise UsageError(f"--calibration-count is wrong: {error}") from error


def _load(path: str | Path | None, report: Callable[[str], None]) -> Fer2013 | None:
    if path is None:
        return None
    from fer_deploy.data.fer2013_reader import load_fer2013

    report(f"Reading {path}")
    return load_fer2013(path)


def _calibration(
    dataset: Fer2013 | None,
    data: str | Path | None,
    calibration: str | Path | None,
    force: bool,
    recipe: ExportRecipe,
    report: Callable[[str], None],
) -> tuple[Calibration | None, str]:
    """Draws the calibration pictures, or says why there are none."""
    same = calibration is None or (data is not None and Path(calibration) == Path(data))
    source = dataset if same else _load(calibration, report)
    if source is None:
        return None, _NEEDS
    if calibration is None and not force and TRAINING not in source.partitions:
        return None, f"{source.source} has only test pictures. {_NEEDS}"
    return draw_calibration(source, recipe.int8.count, recipe.int8.seed, force=force), ""


def _tests(dataset: Fer2013) -> list[str]:
    return [name for name in (PUBLIC, PRIVATE, TEST) if name in dataset.partitions]


@dataclass(frozen=True)
class Calibration:
    """Calibration pictures and where they come from.

    Args:
        images: uint8, shape (N, 48, 48, 1).
        partition: ``Training``, or a test partition where that was forced.
        fingerprint: SHA-256 of the whole partition, ``Partition.fingerprint``.
        count: Pictures.
        seed: Of the draw.
        forced: Whether they are test pictures, which the accuracy of the result is then no proof on.
    """

    images: NDArray[np.uint8]
    partition: str
    fingerprint: str
    count: int
    seed: int
    forced: bool

    def as_dict(self) -> dict[str, Any]:
        """For the manifest: all but the pictures."""
        return {name: value for name, value in asdict(self).items() if name != "images"}


def draw_calibration(dataset: Fer2013, count: int, seed: int, *, force: bool = False) -> Calibration:
    """Draws calibration pictures.

    Args:
        dataset: Where from; its Training partition is used.
        count: How many; as many of each class as of any other, as far as there are.
        seed: Of the draw.
        force: Take test pictures where there is no Training partition.

    Raises:
        UsageError: There is no Training partition, and it is not forced.
    """
    if TRAINING in dataset.partitions:
        name, forced = TRAINING, False
    elif force:
        name, forced = TEST, True
    else:
        have = ", ".join(f"{name} ({len(part):,})" for name, part in dataset.partitions.items())
        raise UsageError(
            f"{dataset.source} has only test pictures ({have}): INT8 calibrated on them could not be verified on them. "
            "Give a FER-2013 with its Training partition, or allow it with --calibration-force"
        )
    partition = dataset.partition(name)
    chosen = _balanced(partition, count, seed)
    images = np.ascontiguousarray(partition.images[chosen][..., None])
    return Calibration(images, name, partition.fingerprint(), len(images), seed, forced)


def _balanced(partition: Partition, count: int, seed: int) -> NDArray[np.int64]:
    """Draws indices: rows lie sorted by name, so that the first ones would all be of one kind."""
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(np.flatnonzero(partition.labels == label)) for label in range(NUM_CLASSES)]
    taken: list[int] = []
    for place in range(max(map(len, shuffled))):  # one of each class in turn, so that rare ones give all they have
        taken += [int(indices[place]) for indices in shuffled if place < len(indices)]
        if len(taken) >= count:
            break
    return np.array(taken[:count], dtype=np.int64)
