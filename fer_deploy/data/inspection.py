"""Looks at what is inside a data set: counts, duplicates, blank pictures, fingerprints."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np

from fer_deploy.data.fer2013 import PARTITIONS, PRIVATE, PUBLIC, TEST, TRAINING, Fer2013
from fer_deploy.labels import LABELS, NUM_CLASSES

KEYS: Final = {TRAINING: "train", PUBLIC: "public", PRIVATE: "private", TEST: "test"}
"""What tables and JSON call the partitions."""


@dataclass(frozen=True)
class Duplicates:
    """Pictures whose pixels are exactly the same.

    Args:
        within: Partition key -> pictures that are a copy of another one in the same partition (the first not counted).
        across: Two partition keys, ``train-public`` -> distinct pictures that are in both.
        label_conflicts: Distinct pictures that are in more than one class.
        groups: The names of each picture that is there more than once, as ``Training/Training_00042``.
    """

    within: Mapping[str, int]
    across: Mapping[str, int]
    label_conflicts: int
    groups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Inspection:
    """What ``fer-deploy data info`` shows.

    Args:
        data: The data set looked at.
        counts: Partition key -> pictures per class, in the order of ``LABELS``.
        duplicates: Exact duplicates.
        blank: Names of the pictures whose pixels are all the same, as ``Training/Training_00042``.
        fingerprints: Partition key -> SHA-256 of its content, equal in every form.
    """

    data: Fer2013
    counts: Mapping[str, tuple[int, ...]]
    duplicates: Duplicates
    blank: tuple[str, ...]
    fingerprints: Mapping[str, str]

    def rows(self) -> list[dict[str, str | int]]:
        """One row per class and one for the total: ``class`` and the number of pictures per partition key."""
        rows: list[dict[str, str | int]] = []
        for index, label in enumerate(LABELS):
            rows.append({"class": label} | {key: counts[index] for key, counts in self.counts.items()})
        rows.append({"class": "total"} | {key: sum(counts) for key, counts in self.counts.items()})
        return rows

    def to_json(self) -> dict[str, Any]:
        """Everything but the groups of duplicates, ready for ``json.dumps``."""
        return {
            "source": str(self.data.source),
            "form": self.data.data_format,
            "rows": self.rows(),
            "duplicates": {
                "within": dict(self.duplicates.within),
                "across": dict(self.duplicates.across),
                "label_conflicts": self.duplicates.label_conflicts,
            },
            "blank": list(self.blank),
            "skipped": [{"where": bad.where, "reason": bad.reason} for bad in self.data.skipped],
            "fingerprints": dict(self.fingerprints),
            "notes": list(self.data.notes),
        }


def inspect(data: Fer2013) -> Inspection:
    """Counts, compares and fingerprints the pictures of a data set."""
    names = _shown_partitions(data)
    counts = {
        KEYS[name]: tuple(np.bincount(data.partitions[name].labels, minlength=NUM_CLASSES).tolist())
        if name in data.partitions
        else (0,) * NUM_CLASSES
        for name in names
    }
    blank = []
    for name, partition in data.partitions.items():
        constant = np.ptp(partition.images.reshape(len(partition), -1), axis=1) == 0
        blank += [f"{name}/{partition.names[index]}" for index in np.flatnonzero(constant)]
    return Inspection(
        data=data,
        counts=counts,
        duplicates=find_duplicates(data),
        blank=tuple(blank),
        fingerprints={KEYS[name]: partition.fingerprint() for name, partition in data.partitions.items()},
    )


def find_duplicates(data: Fer2013) -> Duplicates:
    """Finds the pictures that are in a data set more than once, whatever their labels."""
    places: dict[bytes, list[tuple[str, int, str]]] = defaultdict(list)
    for name, partition in data.partitions.items():
        for image, label, filename in zip(partition.images, partition.labels.tolist(), partition.names, strict=True):
            places[image.tobytes()].append((name, label, filename))
    repeated = [found for found in places.values() if len(found) > 1]
    within: Counter[str] = Counter()
    across: Counter[str] = Counter()
    for found in repeated:
        copies = Counter(name for name, _, _ in found)
        for name, count in copies.items():
            within[KEYS[name]] += count - 1
        for pair in combinations(copies, 2):
            across[_pair(*pair)] += 1
    names = list(data.partitions)
    return Duplicates(
        within={KEYS[name]: within[KEYS[name]] for name in names},
        across={_pair(*pair): across[_pair(*pair)] for pair in combinations(names, 2)},
        label_conflicts=sum(len({label for _, label, _ in found}) > 1 for found in repeated),
        groups=tuple(tuple(f"{name}/{filename}" for name, _, filename in found) for found in repeated),
    )


def _pair(first: str, second: str) -> str:
    ordered = sorted((first, second), key=PARTITIONS.index)
    return "-".join(KEYS[name] for name in ordered)


def _shown_partitions(data: Fer2013) -> list[str]:
    """The columns of the table: a missing partition shows as zeros, and ``test`` only where there is one."""
    if TEST not in data.partitions:
        return [TRAINING, PUBLIC, PRIVATE]
    return [name for name in PARTITIONS if name in data.partitions or name == TRAINING]
