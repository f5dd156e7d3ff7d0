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
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from fer_deploy.backends.base import Backend
from fer_deploy.backends.select import AUTO, open_backend
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import BackendError, ImageError, UsageError
from fer_deploy.images.decode import Photo, decode, from_array
from fer_deploy.images.sources import Item, Readers, Sources
from fer_deploy.inference.batcher import DynamicBatcher
from fer_deploy.inference.face_reader import CROP, DETECT, Found, PhotoReader
from fer_deploy.inference.pipeline import classify
from fer_deploy.inference.prediction import ERROR, Prediction, Predictions
from fer_deploy.labels import IMAGE_SIZE, INPUT_SHAPE
from fer_deploy.video.clips import LazyClipReader

__all__ = ["Classifier", "Prediction", "Predictions"]

if TYPE_CHECKING:
    from PIL import Image

    from fer_deploy.faces.detector import Detector
    from fer_deploy.faces.face import Face

OnError = Literal["raise", "row"]
FaceMode = Literal["auto", "detect", "crop"]
_FACES: Final = ((IMAGE_SIZE, IMAGE_SIZE), INPUT_SHAPE)


class Classifier:
    """A model, loaded and ready.

    One classifier may be used by several threads at once: all methods but ``close`` are thread-safe.

    Args:
        backend: An open backend, which the classifier closes in the end.
        detector: What finds faces in photos: see ``load``.
    """

    def __init__(self, backend: Backend, detector: Detector | str | os.PathLike[str] = AUTO) -> None:
        self.backend, self._detector = backend, detector
        self._gathering: DynamicBatcher | None = None
        self._readers: dict[str, PhotoReader] = {}
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
        detector: Detector | str | os.PathLike[str] = AUTO,
        tta: str | None = None,
    ) -> Self:
        """Loads a bundle's model into a backend.

        Args:
            bundle: A bundle or its folder; ``None`` for the one that ships.
            backend: ``openvino``, ``onnx``, ``keras``, or ``auto``.
            precision: ``fp32``, ``fp16``, ``int8``, ``bf16``, or ``auto``.
            device: ``cpu``, ``cuda``, or ``auto``.
            threads: Threads of the runtime; ``None`` leaves it to the backend.
            detector: What finds faces in photos: ``centerface``, ``yunet``, an ONNX file of either, an object of your
                own (``faces.search.Detector``), or ``auto``. It is loaded for the first photo.
            tta: ``flip`` for the mean of the answers to a face and to its mirror image, in twice the time.

        Raises:
            UsageError: There is no such backend, or no such ``tta``.
            BundleError: The bundle is missing or damaged, or lacks the precision.
            MissingDependencyError: The backend's runtime is not installed.
            BackendError: The backend does not use what was asked for.
        """
        loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        return cls(open_backend(loaded, backend, precision, device, threads, tta), detector)

    def predict(
        self,
        items: Iterable[Item] | Item,
        batch_size: int | None = None,
        on_error: OnError = "raise",
        face: FaceMode = "crop",
    ) -> Predictions:
        """Classifies pictures and returns when all are done.

        Args:
            items: Any mix of paths (a picture, a folder, a pattern, a zip archive: see ``images.sources``), encoded
                pictures as bytes, and arrays: uint8, (H, W), (H, W, 1), (H, W, 3) as RGB or (H, W, 4) as RGBA. Or one
                array for all: uint8, (N, 48, 48) or (N, 48, 48, 1). Or a single path or picture.
            batch_size: Pictures per batch, at least 1; ``None`` for what ``bench --tune`` found, else 32 or 64.
            on_error: What a picture that cannot be read does: ``raise``, or ``row`` for a prediction that says so.
            face: ``crop`` takes each picture as a face; ``detect`` looks for faces in each; ``auto`` looks for them
                in all but small square ones (see ``inference.photos``). An array for all is always of faces.

        Returns:
            One prediction per picture, in the order of the items; of a photo that was searched one per face, the
            surest first, or one with the status ``no-face``; of a video, those of ``stream_video``.

        Raises:
            ImageError: A picture cannot be read; names it.
            UsageError: An argument makes no sense.
            MissingDependencyError: ``detect`` without what finds faces.
            BackendError: The runtime failed.
        """
        size, faces = self._checked(batch_size, on_error), _as_faces(items)
        if faces is not None and 0 < len(faces) <= size:  # one batch: straight to the runtime
            return Predictions(Prediction.of(f"item {n}", row) for n, row in enumerate(self.backend.run(faces)))
        return Predictions(self.stream(items, size, on_error, face))

    def stream(
        self,
        items: Iterable[Item] | Item,
        batch_size: int | None = None,
        on_error: OnError = "row",
        face: FaceMode = "crop",
    ) -> Generator[Prediction, None, None]:
        """Classifies pictures as they come, in bounded memory; arguments and errors are those of ``predict``.

        Pictures are read ahead of the model, so a prediction comes some batches after its picture was taken.
        Arrays are not copied: until its prediction has come, one must not be filled anew.

        Yields:
            One prediction per picture, in the order of the items.
        """
        size, faces = self._checked(batch_size, on_error), _as_faces(items)
        if faces is not None:
            return self._from_batch(faces, size)
        images: Any = [items] if _is_one(items) else items
        readers = self._readers_for(face)
        sources = Sources(images, readers._replace(clip=LazyClipReader(readers.array).rows))
        return self._from_sources(sources, size, on_error)

    def stream_video(
        self, path: str | os.PathLike[str], every: str = "0.5s", smooth_s: float = 1.0, face: FaceMode = "auto"
    ) -> Generator[Prediction, None, None]:
        """Classifies the faces of a video as it is read, in bounded memory, each followed over time.

        Args:
            path: The video.
            every: Which pictures are looked at: seconds (``0.5s``) or pictures (``10f``).
            smooth_s: How far probabilities are smoothed: what is older by it counts e times less; 0 for no smoothing.
            face: See ``predict``; it holds for the video's pictures.

        Yields:
            Per picture one prediction for each face, with ``time_s``, ``frame`` and ``track``, or one ``no-face``;
            where not all of the video can be read, a last one with the status ``error``.

        Raises:
            UsageError: An argument makes no sense.
            MissingDependencyError: PyAV is not installed; ``detect`` without what finds faces.
            BackendError: The runtime failed.
        """
        name = os.fspath(path)
        clips = LazyClipReader(self._readers_for(face).array, every, smooth_s, [name])
        return (row for rows in clips.rows(name, self.backend) for row in rows)

    def stream_camera(
        self,
        source: str | int = 0,
        every: str | None = None,
        smooth_s: float = 1.0,
        face: FaceMode = "auto",
        seconds: float | None = None,
    ) -> Generator[Prediction, None, None]:
        """Classifies the faces that a camera shows, live: always those of its newest picture; others are dropped.

        Args:
            source: A number (0 is ``/dev/video0``), the path of a device or a named pipe, or a stream's address.
            every: Which pictures are looked at, as ``stream_video`` takes it; ``None`` for as many as can be.
            smooth_s: See ``stream_video``.
            face: See ``predict``; it holds for the camera's pictures.
            seconds: For how long; ``None`` until the generator is closed or the camera ends.

        Yields:
            As ``stream_video``; ``time_s`` and ``frame`` count from the first picture that is looked at.

        Raises:
            CameraError: It cannot be opened.
            UsageError: An argument makes no sense.
            MissingDependencyError: PyAV is not installed; ``detect`` without what finds faces.
            BackendError: The runtime failed.
        """
        from fer_deploy.video.camera import Camera, LiveReader

        look = from_array if face == CROP else self._reader(face).live
        with Camera.open(source) as camera:
            for rows in LiveReader(camera, look, every, smooth_s, seconds).rows(self.backend):
                yield from rows

    def detect(self, item: Item) -> list[Face]:
        """Finds the faces of a photo.

        Args:
            item: A photo: a path, encoded bytes, or an array, as ``predict`` takes; no folder, pattern or archive.

        Returns:
            Box (in pixels of the upright picture), score and landmarks of each, the surest first.

        Raises:
            ImageError: It cannot be read.
            MissingDependencyError: What finds faces is not installed.
        """
        return list(self._find(item)[1].faces)

    def predict_faces(self, item: Item) -> Predictions:
        """Finds the faces of a photo and classifies each; arguments, order and errors are those of ``detect``.

        Returns:
            One prediction per face; none if there is no face.
        """
        return self._of_faces(item, self._find(item)[1])

    def annotate(self, item: Item) -> Image.Image:
        """Draws into a photo what ``predict_faces`` says of it: a box and a label for each face.

        Args:
            item: As for ``detect``, as are the errors.

        Returns:
            A Pillow image: upright, RGB; of a JPEG file with more than 2560 pixels a side a smaller copy.
        """
        from PIL import Image

        from fer_deploy.reporting.annotate import annotate

        photo, found = self._find(item)
        faces = tuple(face.scaled(1 / photo.scale) for face in found.faces)
        return annotate(Image.fromarray(photo.pixels), self._of_faces(item, Found(found.strip, faces)))

    def _of_faces(self, item: Item, found: Found) -> Predictions:
        if not found.faces:
            return Predictions([])
        rows = self.backend.run(found.strip.reshape(-1, *INPUT_SHAPE))
        name = _name_of(item)
        return Predictions(
            Prediction.of_face(name, n, face, row) for n, (face, row) in enumerate(zip(found.faces, rows, strict=True))
        )

    def _find(self, item: Item) -> tuple[Photo, Found]:
        try:
            return self._reader(DETECT).find(item)
        except ImageError as error:
            raise ImageError(f"{_name_of(item)}: {error}") from error

    def _readers_for(self, face: str) -> Readers:
        return Readers() if face == CROP else self._reader(face).readers

    def _reader(self, face: str) -> PhotoReader:
        """Gives what reads photos; its detector is loaded once."""
        with self._start:
            if face not in self._readers:
                self._readers[face] = PhotoReader(face, self._detector, threads=self.backend.threads)
            return self._readers[face]

    def submit(self, item: Item) -> Future[Prediction]:
        """Classifies one picture beside those that other threads submit: what waits together runs as one batch.

        A picture is decoded in the calling thread, and starts at once when nothing runs. It is fastest with many
        pictures under way: some 64 over all threads, so with few threads submit several before collecting results.
        Where a single thread has all pictures at hand, ``predict`` and ``stream`` are the simpler way.

        Args:
            item: A picture: a path, encoded bytes, or an array, as ``predict`` takes; no folder, pattern or archive.

        Returns:
            A future of the prediction; its error is this picture's ImageError, or the BackendError of its batch.

        Raises:
            BackendError: The classifier is closed.
        """
        name = _name_of(item)

        def read() -> NDArray[np.uint8]:
            try:
                if isinstance(item, np.ndarray):
                    return from_array(item).copy()  # the caller may fill the array anew before it is this one's turn
                return decode(item)
            except ImageError as error:
                raise ImageError(f"{name}: {error}") from error

        if self._gathering is None:
            with self._start:
                if self._closed:
                    raise BackendError("The classifier is closed and takes no more pictures: load another one")
                self._gathering = self._gathering or DynamicBatcher(self.backend)
        return self._gathering.submit(name, read)

    def _checked(self, batch_size: int | None, on_error: OnError) -> int:
        """Checks what both ways of predicting take; returns the batch size."""
        if on_error not in ("raise", "row"):
            raise UsageError(f"on_error must be 'raise' or 'row', got {on_error!r}")
        if batch_size is None:
            return self.backend.batch
        if batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, got {batch_size}")
        return batch_size

    def _from_batch(self, images: NDArray[np.uint8], batch_size: int) -> Generator[Prediction, None, None]:
        batches = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
        with closing(self.backend.run_stream(batches)) as predictions:
            for index, row in enumerate(row for probabilities in predictions for row in probabilities):
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


def _name_of(item: Item) -> str:
    return os.fspath(item) if isinstance(item, (str, os.PathLike)) else "item 0"


def _as_faces(items: Any) -> NDArray[np.uint8] | None:
    """Gives an array of faces, or of one, the shape of a batch; None for all else."""
    if not isinstance(items, np.ndarray) or items.dtype != np.uint8:
        return None
    shape = items.shape
    if shape in _FACES or shape[1:] in _FACES:
        return items.reshape(-1, *INPUT_SHAPE)
    return None


def _is_one(items: Any) -> bool:
    """Tells one picture from many: a path, bytes, or an array of one picture's shape."""
    if isinstance(items, np.ndarray):
        return items.ndim == 2 or (items.ndim == 3 and items.shape[2] in (1, 3, 4))
    return isinstance(items, (str, os.PathLike, bytes))
