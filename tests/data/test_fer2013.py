from __future__ import annotations

import numpy as np
import pytest

from fer_deploy.data.fer2013 import Partition, joined


def part(seed: int, n: int = 4) -> Partition:
    rng = np.random.default_rng(seed)
    names = tuple(f"{seed}_{index}" for index in range(n))
    return Partition(rng.integers(0, 256, (n, 48, 48), np.uint8), rng.integers(0, 7, n, np.uint8), names)


def test_the_fingerprint_depends_on_content_only() -> None:
    partition = part(1)
    order = [2, 0, 3, 1]
    shuffled = Partition(partition.images[order], partition.labels[order], ("a", "b", "c", "d"))
    assert shuffled.fingerprint() == partition.fingerprint() != part(2).fingerprint()
    relabelled = Partition(partition.images, (partition.labels + 1) % 7, partition.names)
    assert relabelled.fingerprint() != partition.fingerprint()


def test_what_does_not_fit_together_is_refused() -> None:
    partition = part(1)
    with pytest.raises(ValueError, match="and 3 names do not fit"):
        Partition(partition.images, partition.labels, partition.names[:3])


def test_joined_keeps_the_order() -> None:
    both = joined([part(1), part(2)])
    assert len(both) == 8
    assert both.names == part(1).names + part(2).names
    assert np.array_equal(both.labels[4:], part(2).labels)
