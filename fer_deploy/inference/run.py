"""A whole run: sources through a backend into sinks, counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from typing import Protocol

from fer_deploy.backends.base import Backend
from fer_deploy.images.sources import Sources
from fer_deploy.inference.pipeline import classify
from fer_deploy.inference.predictions import Prediction
from fer_deploy.inference.summary import Summary


class Target(AbstractContextManager["Target"], Protocol):
    """What takes predictions; every ``Sink`` does."""

    def write(self, prediction: Prediction) -> None:
        """Takes one."""


def run(
    sources: Sources,
    backend: Backend,
    targets: Sequence[Target],
    summary: Summary,
    batch_size: int = 64,
    watch: Callable[[], None] = lambda: None,
) -> None:
    """Classifies everything; when it is interrupted, the targets and the summary hold what was done so far.

    Args:
        sources: The pictures.
        backend: An open one.
        targets: Each gets every prediction, in order; opened and closed here.
        summary: Counts them.
        batch_size: Pictures per batch.
        watch: Called after each batch.

    Raises:
        OutputError: A target cannot be written.
        BackendError: The runtime failed.
    """
    summary.start()
    summary.skipped = sources.skipped
    with ExitStack() as stack:
        for target in targets:
            stack.enter_context(target)
        for group in stack.enter_context(closing(classify(sources, backend, batch_size))):
            for prediction in group:
                summary.add(prediction)
                for target in targets:
                    target.write(prediction)
            watch()
