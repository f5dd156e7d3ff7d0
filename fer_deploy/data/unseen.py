"""Test pictures that a training has not seen: those whose exact pixels are in no partition that it learned from."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.data.fer2013 import PRIVATE, PUBLIC, TEST, TRAINING, Fer2013, Partition

SEEN_BEFORE: Final = {PUBLIC: (TRAINING,), PRIVATE: (TRAINING, PUBLIC), TEST: (TRAINING,)}
"""What a test partition's pictures may be copies of: Training was learned from, and PublicTest chose the epoch."""


def unseen(data: Fer2013, name: str) -> NDArray[np.bool_]:
    """Tells which pictures of a test partition are copies of none that training or the choice of an epoch used.

    Args:
        data: With Training; partitions that it lacks count as empty.
        name: ``PublicTest``, ``PrivateTest``, or ``Test`` where the two cannot be told apart.

    Returns:
        Shape (N,), False for a picture whose pixels are in a partition of ``SEEN_BEFORE``, whatever its label there.
    """
    seen: set[bytes] = set()
    for other in SEEN_BEFORE[name]:
        if other in data.partitions:
            seen |= _pixels(data.partitions[other])
    return np.array([image.tobytes() not in seen for image in data.partition(name).images], dtype=bool)


def _pixels(partition: Partition) -> set[bytes]:
    return {image.tobytes() for image in partition.images}
