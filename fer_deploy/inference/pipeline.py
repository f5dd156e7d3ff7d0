"""Sources to predictions: pictures are decoded by threads ahead of the model, which gets them in batches.

Memory is bounded whatever the number of pictures: a window of decoded pictures (2304 bytes each face), the photos that
threads search, and the batches that the backend keeps in flight. Results come in the order of the sources. A source
gives exactly one; a photo that faces were looked for in (``photos``) gives one for each, and one if there is none. A
video (``fer_deploy.video``) gives its rows in its turn, once all before it is done.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.backends.base import Backend
from fer_deploy.images.sources import Source
from fer_deploy.inference.prediction import Prediction
from fer_deploy.inference.prefetch import Decoded, decode_ahead
from fer_deploy.labels import INPUT_SHAPE

MAX_WORKERS: Final = 8
_BLANK: Final = np.zeros(INPUT_SHAPE, np.uint8)
_SOON_S: Final = 0.2
_MOST_BAD: Final = 4  # a group is closed at this many times the batch size, however few of its pictures are good


def classify(
    sources: Iterable[Source], backend: Backend, batch_size: int = 64, workers: int | None = None
) -> Generator[list[Prediction], None, None]:
    """Classifies sources as they come.

    Args:
        sources: Consumed lazily, in the calling thread.
        backend: An open one.
        batch_size: Pictures per batch, at least 1; the last one of all is smaller.
        workers: Decoding threads; ``None`` for one per CPU, at most ``MAX_WORKERS``.

    Yields:
        The predictions of consecutive sources; one that cannot be read gives one with the status ``error``.

    Raises:
        BackendError: The runtime failed.
    """
    left = iter(sources)
    clip: Source | None = None

    def images() -> Iterator[Source]:
        nonlocal clip
        for source in left:
            if source.clip is not None:
                clip = source
                return
            yield source

    while True:
        clip = None
        yield from _classify(images(), backend, batch_size, workers)
        if clip is None or clip.clip is None:
            return
        with closing(clip.clip(backend)) as rows:
            yield from rows


def _classify(
    sources: Iterable[Source], backend: Backend, batch_size: int, workers: int | None
) -> Generator[list[Prediction], None, None]:
    """Classifies sources that are no videos."""
    groups: deque[list[Decoded]] = deque()  # handed to the backend, its answer not here yet

    def batches(decoded: Iterable[Decoded]) -> Generator[NDArray[np.uint8], None, None]:
        for group in _grouped(decoded, batch_size):
            groups.append(group)
            good = [each.pixels for each in group if each.pixels is not None]
            batch = np.concatenate(good or [_BLANK]).reshape(-1, *INPUT_SHAPE)  # a third of the time of np.stack
            yield batch if len(batch) else _BLANK[np.newaxis]  # a group without a face passes in its turn, too

    workers = workers or min(MAX_WORKERS, os.cpu_count() or 1)
    with (
        closing(decode_ahead(sources, workers, 2 * batch_size + 2 * workers)) as decoded,
        closing(batches(decoded)) as stacked,
        closing(backend.run_stream(stacked)) as outputs,
    ):
        for probabilities in outputs:
            yield predictions(groups.popleft(), probabilities)


def _grouped(decoded: Iterable[Decoded], batch_size: int) -> Generator[list[Decoded], None, None]:
    """Cuts into groups with ``batch_size`` faces each; a photo's faces stay together.

    A group with photos waits no longer than ``_SOON_S`` for more: to search them takes so much longer than to classify
    their faces that smaller batches cost nothing, and full ones would hold the rows of seconds back.
    """
    group: list[Decoded] = []
    good = 0
    searched, began = False, 0.0
    for each in decoded:
        if not group:
            searched, began = False, time.monotonic()
        group.append(each)
        searched = searched or each.faces is not None
        good += 0 if each.pixels is None else 1 if each.faces is None else len(each.faces)
        is_late = searched and time.monotonic() - began >= _SOON_S
        if is_late or good >= batch_size or len(group) >= _MOST_BAD * batch_size:
            yield group
            group, good = [], 0
    if group:
        yield group


def predictions(group: list[Decoded], probabilities: NDArray[np.float32]) -> list[Prediction]:
    """Gives the rows of sources that were read.

    Args:
        group: The sources.
        probabilities: float32 (N, 7), of all faces in them.
    """
    rows = iter(probabilities)
    found: list[Prediction] = []
    for each in group:
        if each.pixels is None:
            found.append(Prediction.failed(each.name, each.reason))
        elif each.faces is None:
            found.append(Prediction.of(each.name, next(rows)))
        elif not each.faces:
            found.append(Prediction.of_no_face(each.name))
        else:
            found += (Prediction.of_face(each.name, n, face, next(rows)) for n, face in enumerate(each.faces))
    return found
