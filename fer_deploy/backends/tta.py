"""Test-time augmentation: each picture is looked at twice, as it is and mirrored, and the two answers are averaged."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Final

import numpy as np

from fer_deploy.backends.base import Backend, Images, Probabilities
from fer_deploy.errors import UsageError

FLIP: Final = "flip"
_ALIKE: Final = (
    *("name", "install", "precisions", "devices", "format", "modules", "aliases", "default_batch"),
    *("bundle", "precision", "device", "threads", "settings", "effective", "runtime", "gpu", "simulated", "_open"),
)
"""What is told of the backend inside as if it were this one's own."""


def check_tta(tta: str | None) -> None:
    """Refuses what is no test-time augmentation; None is none.

    Raises:
        UsageError: There is no such one.
    """
    if tta not in (None, FLIP):
        raise UsageError(f"There is no test-time augmentation {tta!r:.40}; there is: {FLIP}")


def with_tta(backend: Backend, tta: str | None) -> Backend:
    """Gives a backend with test-time augmentation, or the very one that was given where there is none.

    Args:
        backend: Open; closing the new one closes it.
        tta: ``flip``, or None.

    Raises:
        UsageError: There is no such one.
    """
    check_tta(tta)
    return backend if tta is None else Mirrored(backend)


class Mirrored(Backend):
    """Runs every batch twice in a backend, the second time mirrored, and gives the mean of both answers.

    Args:
        backend: What runs them.
    """

    tta = FLIP

    def __init__(self, backend: Backend) -> None:
        self._inside = backend
        self._tell_alike()

    def _tell_alike(self) -> None:
        for name in _ALIKE:
            setattr(self, name, getattr(self._inside, name))

    def parallelism(self, streaming: bool) -> tuple[int | None, int | None]:
        """Asks the backend inside."""
        return self._inside.parallelism(streaming)

    def run_stream(self, batches: Iterable[Images]) -> Generator[Probabilities, None, None]:
        """Streams each batch and its mirror image, one after the other."""
        with closing(self._inside.run_stream(self._both(batches))) as predictions:
            for prediction in predictions:
                yield _mean(prediction, next(predictions))

    def _both(self, batches: Iterable[Images]) -> Iterator[Images]:
        for batch in batches:
            self._check(batch)
            yield batch
            yield _mirrored(batch)

    def run_concurrent(self, batch: Images) -> Probabilities:
        """Runs both beside the batches of other threads."""
        self._check(batch)
        return _mean(self._inside.run_concurrent(batch), self._inside.run_concurrent(_mirrored(batch)))

    def _load(self) -> None:
        self._inside.open()
        self._tell_alike()

    def _infer(self, batch: Images) -> Probabilities:
        return _mean(self._inside.run(batch), self._inside.run(_mirrored(batch)))

    def _unload(self) -> None:
        self._inside.close()


def _mirrored(batch: Images) -> Images:
    return np.ascontiguousarray(batch[:, :, ::-1])


def _mean(one: Probabilities, other: Probabilities) -> Probabilities:
    mean: Probabilities = ((one + other) / 2).astype(np.float32, copy=False)
    return mean
