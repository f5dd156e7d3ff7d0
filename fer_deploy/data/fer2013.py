"""What FER-2013 is, whichever form it was read from.

From single pictures to partitions, and what happens to the bad ones among them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import DataError
from fer_deploy.labels import IMAGE_SIZE, LABELS

TRAINING: Final = "Training"
PUBLIC: Final = "PublicTest"
PRIVATE: Final = "PrivateTest"
TEST: Final = "Test"
"""The test pictures as one unseen set, where the source does not tell public from private."""
PARTITIONS: Final = (TRAINING, PUBLIC, PRIVATE, TEST)
"""Every partition, in the order of tables and CSV rows."""
PARTITION_SIZES: Final = {TRAINING: 28_709, PUBLIC: 3_589, PRIVATE: 3_589}
"""Sizes of the published partitions."""
Progress = Callable[[int, int], None]
"""Called with what is done and the total, both in one unit (pictures or bytes); total is 0 where nobody knows it."""
PIXELS: Final = IMAGE_SIZE * IMAGE_SIZE
MAX_IMAGES: Final = 200_000
"""More than five times FER-2013: what holds more is something else, or made to fill the memory."""
MAX_NAME: Final = 200


@dataclass(frozen=True)
class Partition:
    """Pictures and their labels, in the order of their file names whichever form they came from.

    Args:
        images: uint8, shape (N, 48, 48), gray, 0..255.
        labels: uint8, shape (N,), indices into ``fer_deploy.labels.LABELS``.
        names: N names, unique within the partition: the picture's file name without its extension
            (``Training_00042``), or the same made from partition and position for CSV rows. Where a data set
            uses a file name in several classes, all its names carry their class (``angry/Training_00042``).
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Checks that the three belong together."""
        n = len(self.names)
        if self.images.shape != (n, IMAGE_SIZE, IMAGE_SIZE) or self.labels.shape != (n,):
            raise ValueError(f"images {self.images.shape}, labels {self.labels.shape} and {n} names do not fit")

    def __len__(self) -> int:
        return len(self.names)

    def take(self, chosen: NDArray[Any]) -> Partition:
        """Makes a partition of some of the pictures.

        Args:
            chosen: Their indices, in the order wanted, or a mask, bool, shape (N,).
        """
        indices = np.arange(len(self))[chosen]
        return Partition(self.images[indices], self.labels[indices], tuple(self.names[i] for i in indices))

    def fingerprint(self) -> str:
        """SHA-256 over all (label, pixels) pairs in an order of their own: equal for equal content in any form."""
        rows = sorted(bytes([label]) + image.tobytes() for label, image in zip(self.labels, self.images, strict=True))
        return hashlib.sha256(b"".join(rows)).hexdigest()


@dataclass(frozen=True)
class BadRow:
    """A row or file that could not be used: where it is and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Fer2013:
    """The data set as read.

    Args:
        source: Where it came from.
        data_format: ``zip``, ``folder`` or ``csv`` (a zipped or gzipped CSV is ``csv``).
        partitions: Partition name -> pictures; ``Test`` stands for both test sets where they can't be told apart.
        skipped: What was left out under ``skip_bad``.
        notes: What the user should know about how it was read, one line each.
    """

    source: Path
    data_format: str
    partitions: Mapping[str, Partition]
    skipped: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()

    def partition(self, name: str) -> Partition:
        """Returns a partition by name; ``Test`` is all test pictures, also where public and private are known.

        Raises:
            DataError: The source has no such partition.
        """
        if name in self.partitions:
            return self.partitions[name]
        tests = [self.partitions[test] for test in (PUBLIC, PRIVATE) if test in self.partitions]
        if name == TEST and tests:
            return joined(tests)
        have = ", ".join(f"{key} ({len(value)})" for key, value in self.partitions.items())
        if name in (PUBLIC, PRIVATE) and TEST in self.partitions:
            hint = "its file names don't tell the two test sets apart: use Test, or a copy with the published names"
        else:
            hint = "use a complete FER-2013"
        raise DataError(f"{self.source} has no partition {name}, only {have}; {hint}")


def joined(partitions: Sequence[Partition]) -> Partition:
    """Makes one partition of several, one after the other."""
    return Partition(
        images=np.concatenate([partition.images for partition in partitions]),
        labels=np.concatenate([partition.labels for partition in partitions]),
        names=tuple(name for partition in partitions for name in partition.names),
    )


class LabelledRow(NamedTuple):
    """One picture as read.

    Args:
        partition: One of ``PARTITIONS``.
        label: 0 to 6.
        stem: File name without extension and folder.
        pixels: 2,304 bytes, row by row.
        where: Line or file, for messages.
    """

    partition: str
    label: int
    stem: str
    pixels: bytes
    where: str


class BadRows:
    """Takes what is bad: raises at the first, or collects them all under ``skip_bad``."""

    def __init__(self, source: Path, skip_bad: bool) -> None:
        self.source = source
        self.skip_bad = skip_bad
        self.found: list[BadRow] = []

    def add(self, where: str, reason: str) -> None:
        """Notes one bad row.

        Raises:
            DataError: Bad rows are not to be skipped.
        """
        where = where.replace("\n", "\\n").replace("\r", "\\r")  # a damaged archive's names can hold anything
        if not self.skip_bad:
            raise DataError(
                f"{self.source}, {where}: {reason}. Repair it, or go on without it: --skip-bad (Python: skip_bad=True)"
            )
        self.found.append(BadRow(where, reason))


def check_count(source: Path, count: int) -> None:
    """Refuses what holds far more pictures than FER-2013.

    Raises:
        DataError: ``count`` is over ``MAX_PICTURES``.
    """
    if count > MAX_IMAGES:
        raise DataError(f"{source} is not FER-2013: it holds more than {MAX_IMAGES:,} pictures, expected 35,887")


def name_problem(stem: str) -> str | None:
    """Says why a name cannot be a file name in every form, or None when it can."""
    if not stem or len(stem) > MAX_NAME:
        return f"its name has {len(stem)} characters, expected 1 to {MAX_NAME}"
    if stem.startswith(".") or "/" in stem or "\\" in stem or not stem.isprintable():
        return f"its name {stem[:40]!r} cannot be a plain file name in every form"
    return None


def assemble(rows: Iterable[LabelledRow], bad: BadRows) -> dict[str, Partition]:
    """Sorts rows by file name and makes partitions of them.

    Names get their class in front when any file name is used by two classes of one partition, as in copies
    that number each class from 0.
    """
    ordered = sorted(rows, key=lambda row: (row.stem, row.label))
    grouped: dict[str, list[LabelledRow]] = {partition: [] for partition in PARTITIONS}
    seen: set[tuple[str, str, int]] = set()
    for row in ordered:
        key = (row.partition, row.stem, row.label)
        if key in seen:
            bad.add(row.where, f"there is already a picture {row.stem} of class {LABELS[row.label]}")
            continue
        seen.add(key)
        grouped[row.partition].append(row)
    with_class = any(_clashes(group) for group in grouped.values())
    return {name: _partition(group, with_class) for name, group in grouped.items() if group}


def _clashes(rows: list[LabelledRow]) -> bool:
    return any(count > 1 for count in Counter(row.stem for row in rows).values())


def _partition(rows: list[LabelledRow], with_class: bool) -> Partition:
    images = np.frombuffer(bytearray(b"".join(row.pixels for row in rows)), np.uint8)
    return Partition(
        images=images.reshape(-1, IMAGE_SIZE, IMAGE_SIZE),
        labels=np.array([row.label for row in rows], np.uint8),
        names=tuple(f"{LABELS[row.label]}/{row.stem}" if with_class else row.stem for row in rows),
    )
