"""Pictures that INT8 ranges are measured on: a seeded sample of Training, alike from every class."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_deploy.data.fer2013 import TEST, TRAINING, Fer2013, Partition
from fer_deploy.errors import UsageError
from fer_deploy.labels import NUM_CLASSES


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
