"""The Python API: pictures in, emotions out.

from fer_deploy import Classifier

with Classifier.load() as classifier:
    for prediction in classifier.predict(["face.png", "photos/"]):
        print(prediction.path, prediction.emotion, prediction.confidence)
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from fer_deploy.backends.base import Backend
from fer_deploy.backends.select import AUTO, open_backend
from fer_deploy.bundle import Bundle
from fer_deploy.errors import BackendError, ImageError, UsageError
from fer_deploy.images.decode import decode, from_array
from fer_deploy.images.sources import Item, Sources
from fer_deploy.inference.gathering import Gathering
from fer_deploy.inference.pipeline import classify
from fer_deploy.inference.predictions import ERROR, Prediction, Predictions
from fer_deploy.labels import IMAGE_SIZE, INPUT_SHAPE

__all__ = ["Classifier", "Prediction", "Predictions"]

OnError = Literal["raise", "row"]
_FACE: Final = (IMAGE_SIZE, IMAGE_SIZE)


class Classifier:
    """A model, loaded and ready.

    One classifier may be used by several threads at once: all methods but ``close`` are thread-safe.

    Args:
        backend: An open backend, which the classifier closes in the end.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._gathering: Gathering | None = None
        self._closed = False
        self._start = Lock()

    @classmethod
    def load(
        cls,
        bundle: Bundle | str | Path | None = None,
        backend: str = AUTO,
        precision: str = AUTO,
        device: str = AUTO,
        threads: int | None = None,
    ) -> Self:
        """Loads a bundle's model into a backend.

        Args:
            bundle: A bundle or its folder; ``None`` for the one that ships.
            backend: ``openvino``, ``onnx``, ``keras``, or ``auto``.
            precision: ``fp32``, ``fp16``, ``int8``, ``bf16``, or ``auto``.
            device: ``cpu``, ``cuda``, or ``auto``.
            threads: Threads of the runtime; ``None`` leaves it to the backend.

        Raises:
            UsageError: There is no such backend.
            BundleError: The bundle is missing or damaged, or lacks the precision.
            MissingDependencyError: The backend's runtime is not installed.
            BackendError: The backend does not use what was asked for.
        """
        loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        return cls(open_backend(loaded, backend, precision, device, threads))

    def predict(
        self, items: Iterable[Item] | Item, batch_size: int | None = None, on_error: OnError = "raise"
    ) -> Predictions:
        """Classifies pictures and returns when all are done.

        Args:
            items: Any mix of paths (a picture, a folder, a pattern, a zip archive: see ``images.sources``), encoded
                pictures as bytes, and arrays: uint8, (H, W), (H, W, 1), (H, W, 3) as RGB or (H, W, 4) as RGBA. Or one
                array for all: uint8, (N, 48, 48) or (N, 48, 48, 1). Or a single path or picture.
            batch_size: Pictures per batch, at least 1; ``None`` for what ``bench --tune`` found, else 32 or 64.
            on_error: What a picture that cannot be read does: ``raise``, or ``row`` for a prediction that says so.

        Returns:
            One prediction per picture, in the order of the items.

        Raises:
            ImageError: A picture cannot be read; names it.
            UsageError: An argument makes no sense.
            BackendError: The runtime failed.
        """
        return Predictions(self.stream(items, batch_size, on_error))

    def stream(
        self, items: Iterable[Item] | Item, batch_size: int | None = None, on_error: OnError = "row"
    ) -> Generator[Prediction, None, None]:
        """Classifies pictures as they come, in bounded memory; arguments and errors are those of ``predict``.

        Pictures are read ahead of the model, so a prediction comes some batches after its picture was taken.

        Yields:
            One prediction per picture, in the order of the items.
        """
        if batch_size is None:
            batch_size = self.backend.batch
        elif batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, got {batch_size}")
        if on_error not in ("raise", "row"):
            raise UsageError(f"on_error must be 'raise' or 'row', got {on_error!r}")
        faces = (_FACE, INPUT_SHAPE)
        if isinstance(items, np.ndarray) and items.dtype == np.uint8 and {items.shape, items.shape[1:]} & {*faces}:
            return self._from_batch(items.reshape(-1, *INPUT_SHAPE), batch_size)
        sources = Sources([items] if _is_one(items) else items)  # type: ignore[list-item, arg-type]
        return self._from_sources(sources, batch_size, on_error)

    def submit(self, item: Item) -> Future[Prediction]:
        """Classifies one picture beside those that other threads submit: what waits together runs as one batch.

        A picture is decoded in the calling thread, and starts at once when nothing runs. Where a single thread has
        all pictures at hand, ``predict`` and ``stream`` are the simpler way.

        Args:
            item: A picture: a path, encoded bytes, or an array, as ``predict`` takes; no folder, pattern or archive.

        Returns:
            A future of the prediction; its error is this picture's ImageError, or the BackendError of its batch.

        Raises:
            BackendError: The classifier is closed.
        """
        name = os.fspath(item) if isinstance(item, (str, os.PathLike)) else "item 0"

        def read() -> NDArray[np.uint8]:
            try:
                return from_array(item) if isinstance(item, np.ndarray) else decode(item)
            except ImageError as error:
                raise ImageError(f"{name}: {error}") from error

        if self._gathering is None:
            with self._start:
                if self._closed:
                    raise BackendError("The classifier is closed and takes no more pictures: load another one")
                self._gathering = self._gathering or Gathering(self.backend)
        return self._gathering.submit(name, read)

    def _from_batch(self, images: NDArray[np.uint8], batch_size: int) -> Generator[Prediction, None, None]:
        batches = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
        with closing(self.backend.run_stream(batches)) as answers:
            for index, row in enumerate(row for probabilities in answers for row in probabilities):
                yield Prediction.of(f"item {index}", row)

    def _from_sources(self, sources: Sources, batch_size: int, on_error: OnError) -> Generator[Prediction, None, None]:
        with closing(classify(sources, self.backend, batch_size)) as groups:
            for prediction in (prediction for group in groups for prediction in group):
                if on_error == "raise" and prediction.status == ERROR:
                    raise ImageError(f"{prediction.path}: {prediction.reason}")
                yield prediction

    def close(self) -> None:
        """Finishes what was submitted and frees the runtime's memory."""
        with self._start:
            self._closed = True
        if self._gathering is not None:
            self._gathering.close()
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_one(items: Any) -> bool:
    """Tells one picture from many: a path, bytes, or an array of one picture's shape."""
    if isinstance(items, np.ndarray):
        return items.ndim == 2 or (items.ndim == 3 and items.shape[2] in (1, 3, 4))
    return isinstance(items, (str, os.PathLike, bytes))
