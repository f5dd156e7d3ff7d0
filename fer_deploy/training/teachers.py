"""Knowledge distillation: trained networks look at each augmented picture, and their answer is mixed into its label.

Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network", in the form without temperature: one
cross-entropy against a mixture of label and teachers' probabilities. A teacher whose bundle was given a temperature
(``export --fit-temperature``) teaches its probabilities with it: sharper ones below 1, softer ones above.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fer_deploy.backends.select import open_backend
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import BundleError, TrainingError


class Teachers:
    """Opened bundles that teach their mean prediction for an image and its horizontal flip.

    They run on what ``auto`` takes here, on one thread.

    Args:
        bundles: Folders of bundles, or names of shipped ones; none is allowed, and teaches nothing.

    Raises:
        TrainingError: One of them is no bundle.
    """

    def __init__(self, bundles: Sequence[str]) -> None:
        try:
            self._bundles = [Bundle.load(path) for path in bundles]
        except BundleError as error:
            raise TrainingError(f"A teacher cannot be used: {error}") from error
        self._opened = ExitStack()

    @property
    def digests(self) -> list[str]:
        """SHA-256 of each teacher's Keras file."""
        return [bundle.source_sha256 for bundle in self._bundles]

    def __enter__(self) -> Self:
        self._backends = [self._opened.enter_context(open_backend(bundle, threads=1)) for bundle in self._bundles]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def teach(self, images: NDArray[np.float32], labels: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
        """Mixes labels with what the teachers see.

        Args:
            images: Augmented pictures, shape (N, 48, 48, 1), about 0..255.
            labels: One-hot or smoothed, shape (N, 7).
            weight: Share of the teachers, 0 to 1.

        Returns:
            ``(1 - weight) * labels + weight * predictions``, shape (N, 7).
        """
        if not self._backends:
            return labels
        faces = np.clip(np.rint(images), 0, 255).astype(np.uint8)
        views = (faces, np.ascontiguousarray(faces[:, :, ::-1]))
        predictions = np.mean([backend.run(view) for backend in self._backends for view in views], axis=0)
        mixed: NDArray[np.float32] = ((1 - weight) * labels + weight * predictions).astype(np.float32)
        return mixed
