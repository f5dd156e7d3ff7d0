"""The ``null`` backend: answers without computing, so that what is measured is the harness around a backend."""

from __future__ import annotations

import numpy as np

from fer_deploy import __version__
from fer_deploy.backends.base import Backend, Images, Probabilities
from fer_deploy.labels import NUM_CLASSES


class NullBackend(Backend):
    """Gives every class the same probability, whatever the picture; for measuring only, so ``auto`` never takes it."""

    name = "null"
    install = ("fer-deploy",)
    precisions = ("fp32",)

    def _load(self) -> None:
        self.effective = "nothing"
        self.runtime = f"fer-deploy {__version__}"

    def _infer(self, batch: Images) -> Probabilities:
        return np.full((len(batch), NUM_CLASSES), 1 / NUM_CLASSES, np.float32)

    def _unload(self) -> None:
        pass
