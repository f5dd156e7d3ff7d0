"""What the classifier says of pictures: one ``Prediction`` each, and ``Predictions`` for many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from fer_deploy.labels import LABELS, NUM_CLASSES

if TYPE_CHECKING:
    from fer_deploy.faces.face import Face

OK: Final = "ok"
ERROR: Final = "error"
NO_FACE: Final = "no-face"

Box = tuple[float, float, float, float]
"""Left edge, upper edge, width and height, in pixels of the upright picture."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was found in one picture, or of one face in it.

    Args:
        path: What the picture is called: its path, ``archive.zip/member.png``, or ``item 3``.
        emotion: The most probable class; None when the picture could not be read or no face was found in it.
        confidence: That class's probability, 0..1; None where ``emotion`` is.
        probabilities: Seven, in the order of ``LABELS``, their sum 1; empty where ``emotion`` is None.
        status: ``ok``, ``no-face`` or ``error``.
        reason: Why it could not be read; empty when it could.
        face: The face's number in its picture, from 0; None when the picture was taken as a face already cut out.
        box: Where the face lies; None where ``face`` is, as are the next two.
        face_score: How sure the detector is, 0..1.
        time_s: Of a video: since its start.
        frame: Of a video: the picture's number, from 0; None for a picture, as are ``time_s`` and ``track``.
        track: Of a video: the same for all rows of one face that was followed.
    """

    path: str
    emotion: str | None
    confidence: float | None
    probabilities: tuple[float, ...] = ()
    status: str = OK
    reason: str = ""
    face: int | None = None
    box: Box | None = None
    face_score: float | None = None
    time_s: float | None = None
    frame: int | None = None
    track: int | None = None

    @classmethod
    def of(cls, path: str, probabilities: NDArray[np.float32]) -> Prediction:
        """Makes one of a model's output, float32 of shape (7,)."""
        values = tuple(probabilities.tolist())
        best = int(probabilities.argmax())
        return cls(path, LABELS[best], values[best], values)

    @classmethod
    def of_face(cls, path: str, number: int, face: Face, probabilities: NDArray[np.float32]) -> Prediction:
        """Makes the one of a face that was found in a picture."""
        return replace(cls.of(path, probabilities), face=number, box=face.box, face_score=face.score)

    @classmethod
    def of_no_face(cls, path: str) -> Prediction:
        """Makes the one of a picture in which no face was found."""
        return cls(path, None, None, status=NO_FACE)

    @classmethod
    def failed(cls, path: str, reason: str) -> Prediction:
        """Makes the one of a picture that could not be read."""
        return cls(path, None, None, status=ERROR, reason=reason)


class Predictions(Sequence[Prediction]):
    """Predictions in the order of their pictures.

    Args:
        predictions: One per picture, or per face.

    Attributes:
        labels: The names of the classes, which are the columns of ``probabilities``.
    """

    labels: Final = LABELS

    def __init__(self, predictions: Iterable[Prediction]) -> None:
        self._all = tuple(predictions)

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """float32, shape (N, 7), rows sum to 1; NaN in the rows without an emotion."""
        unread = (float("nan"),) * NUM_CLASSES
        rows = [prediction.probabilities or unread for prediction in self._all]
        return np.array(rows, dtype=np.float32).reshape(len(rows), NUM_CLASSES)

    @property
    def emotions(self) -> list[str | None]:
        """The most probable class of each picture; None where it could not be read or has no face."""
        return [prediction.emotion for prediction in self._all]

    def to_arrow(self) -> Any:
        """Makes a ``pyarrow.Table`` with the columns and types of the Parquet output; what does not apply is null.

        Raises:
            MissingDependencyError: pyarrow is not installed.
        """
        from fer_deploy.inference.frames import to_arrow

        return to_arrow(self)

    def to_pandas(self) -> Any:
        """Makes a ``pandas.DataFrame`` with the same columns; what does not apply is NaN, None or ``<NA>``.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        from fer_deploy.inference.frames import to_pandas

        return to_pandas(self)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Predictions: ...
    def __getitem__(self, index: int | slice) -> Prediction | Predictions:
        return Predictions(self._all[index]) if isinstance(index, slice) else self._all[index]

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        return f"Predictions({list(self._all)!r})"
