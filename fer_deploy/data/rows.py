"""From single pictures to partitions, and what happens to the bad ones among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from fer_deploy.data.fer2013 import PARTITIONS, BadRow, Partition
from fer_deploy.errors import DataError
from fer_deploy.labels import IMAGE_SIZE, LABELS

PIXELS: Final = IMAGE_SIZE * IMAGE_SIZE
MAX_PICTURES: Final = 200_000
"""More than five times FER-2013: what holds more is something else, or made to fill the memory."""
MAX_NAME: Final = 200


class Row(NamedTuple):
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
    if count > MAX_PICTURES:
        raise DataError(f"{source} is not FER-2013: it holds more than {MAX_PICTURES:,} pictures, expected 35,887")


def name_problem(stem: str) -> str | None:
    """Says why a name cannot be a file name in every form, or None when it can."""
    if not stem or len(stem) > MAX_NAME:
        return f"its name has {len(stem)} characters, expected 1 to {MAX_NAME}"
    if stem.startswith(".") or "/" in stem or "\\" in stem or not stem.isprintable():
        return f"its name {stem[:40]!r} cannot be a plain file name in every form"
    return None


def assemble(rows: Iterable[Row], bad: BadRows) -> dict[str, Partition]:
    """Sorts rows by file name and makes partitions of them.

    Names get their class in front when any file name is used by two classes of one partition, as in copies
    that number each class from 0.
    """
    ordered = sorted(rows, key=lambda row: (row.stem, row.label))
    grouped: dict[str, list[Row]] = {partition: [] for partition in PARTITIONS}
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


def _clashes(rows: list[Row]) -> bool:
    return any(count > 1 for count in Counter(row.stem for row in rows).values())


def _partition(rows: list[Row], with_class: bool) -> Partition:
    images = np.frombuffer(bytearray(b"".join(row.pixels for row in rows)), np.uint8)
    return Partition(
        images=images.reshape(-1, IMAGE_SIZE, IMAGE_SIZE),
        labels=np.array([row.label for row in rows], np.uint8),
        names=tuple(f"{LABELS[row.label]}/{row.stem}" if with_class else row.stem for row in rows),
    )
