"""A whole run: sources through a backend into sinks, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import replace
from typing import Protocol

from fer_deploy.backends.base import Backend
from fer_deploy.images.sources import Source, Sources
from fer_deploy.inference.earlier import Match
from fer_deploy.inference.pipeline import classify
from fer_deploy.inference.predictions import Prediction
from fer_deploy.inference.sinks import Sink
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
    resumed: Sink | None = None,
    guarded: Callable[[Iterator[Source]], Iterator[Source]] = iter,
) -> None:
    """Classifies everything; when it is interrupted, the targets and the summary hold what was done so far.

    Args:
        sources: The pictures.
        backend: An open one.
        targets: Each gets every prediction, in order; opened and closed here.
        summary: Counts them.
        batch_size: Pictures per batch.
        watch: Called after each batch.
        resumed: The target that holds the rows of an earlier run; they count, and the other targets get them, too.
        guarded: Gives the sources that are read, to watch over their reading.

    Raises:
        OutputError: A target cannot be written, or the rows of the earlier run are of other sources.
        BackendError: The runtime failed.
    """
    summary.skipped = sources.skipped
    match = Match(resumed.target if resumed else "", iter(sources))
    if resumed is not None:
        resumed.find_place(match)
    with ExitStack() as stack:
        for target in targets:
            stack.enter_context(target)
        for row in () if resumed is None else resumed.rows_so_far():
            _hand_on(
                replace(row, path=match.name(row.path)), [each for each in targets if each is not resumed], summary
            )
        summary.start()
        for group in stack.enter_context(closing(classify(guarded(match.rest()), backend, batch_size))):
            for prediction in group:
                _hand_on(prediction, targets, summary)
            watch()


def _hand_on(prediction: Prediction, targets: Sequence[Target], summary: Summary) -> None:
    summary.add(prediction)
    for target in targets:
        target.write(prediction)
