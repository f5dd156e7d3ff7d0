"""Accuracy with and without test pictures that are copies of what a model was made with.

Test pictures that a training has not seen: those whose exact pixels are in no partition that it learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.data.fer2013 import PRIVATE, PUBLIC, TEST, TRAINING, Fer2013, Partition
from fer_deploy.metrics.accuracy import score

SEEN_BEFORE: Final = {PUBLIC: (TRAINING,), PRIVATE: (TRAINING, PUBLIC), TEST: (TRAINING,)}
"""What a test partition's pictures may be copies of: Training was learned from, and PublicTest chose the epoch."""


@dataclass(frozen=True)
class Unseen:
    """Accuracy on the pictures that are copies of none that the model was made with.

    Args:
        n: Those pictures.
        copies: The rest of the partition.
        accuracy: Share of right top-1 answers of the ``n``.
        interval: Its 95 % confidence interval (Wilson).
        against: The partitions that were searched for copies.
    """

    n: int
    copies: int
    accuracy: float
    interval: tuple[float, float]
    against: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def without_copies(predictions: Mapping[str, NDArray[np.float32]], data: Fer2013) -> dict[str, Unseen]:
    """Scores test partitions without copies, and both together as ``Test``.

    Args:
        predictions: Partition -> probabilities, shape (N, 7), in the data set's order.
        data: With these partitions and Training.

    Returns:
        By partition; those of which no picture is left are missing.
    """
    masks = {name: unseen(data, name) for name in predictions}
    found = {}
    for name, mask in masks.items():
        if mask.any():
            against = tuple(other for other in SEEN_BEFORE[name] if other in data.partitions)
            found[name] = _scored(predictions[name], data.partition(name).labels, mask, against)
    if len(found) == len(predictions) == 2:
        labels = np.concatenate([data.partition(name).labels for name in predictions])
        all_predictions, all_masks = (
            np.concatenate([each[name] for name in predictions]) for each in (predictions, masks)
        )
        found[TEST] = _scored(all_predictions, labels, all_masks, max((u.against for u in found.values()), key=len))
    return found


def _scored(
    predictions: NDArray[np.float32], labels: NDArray[np.uint8], mask: NDArray[np.bool_], against: tuple[str, ...]
) -> Unseen:
    result = score(predictions[mask], labels[mask])
    return Unseen(result.n, int((~mask).sum()), result.accuracy, result.interval, against)


def copies_table(found: Mapping[str, Unseen], whole: Mapping[str, float]) -> list[str]:
    """Makes the Markdown table of both accuracies.

    Args:
        found: Of ``without_copies``.
        whole: Accuracy on the whole partitions, fractions, by the same names.
    """
    lines = ["| partition | accuracy | copies in it | accuracy without them | 95 % interval | copies of |"]
    lines.append("|---|---:|---:|---:|---|---|")
    for name, each in found.items():
        low, high = each.interval
        against = " and ".join(each.against) or "none"
        lines.append(
            f"| {name} | {whole[name]:.2%} | {each.copies:,} | {each.accuracy:.2%} | {low:.2%} to {high:.2%} "
            f"| {against} |"
        )
    return lines


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
