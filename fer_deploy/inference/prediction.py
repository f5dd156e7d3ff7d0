"""What the classifier says of pictures: one ``Prediction`` each, and ``Predictions`` for many.

The inference table: its columns, and a prediction as one of its rows.

Predictions as tables of other libraries, with the columns of the inference table, which ``table.py`` lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import MissingDependencyError
from fer_deploy.labels import LABELS, NUM_CLASSES

if TYPE_CHECKING:
    from fer_deploy.faces.face import Face

OK: Final = "ok"
ERROR: Final = "error"
NO_FACE: Final = "no-face"
Box = tuple[float, float, float, float]
"""Left edge, upper edge, width and height, in pixels of the upright picture."""
COLUMNS: Final = (
    *("path", "face", "emotion", "confidence", "status", "reason"),
    *LABELS,
    *("x", "y", "width", "height", "face_score"),  # where the face lies in the picture, when faces are looked for
    *("time_s", "frame", "track"),  # of a video
)
"""Always all of them, so that tables of any run can be put together; those that don't apply are empty."""
Cell = str | float | int | None
_DIGITS: Final = 7  # what float32 holds
_SEVERAL: Final = f"%.{_DIGITS}g "
_TIME_DIGITS: Final = 6  # microseconds, however long the video
_STRINGS: Final = ("path", "emotion", "status", "reason")
_INTEGERS: Final = ("face", "x", "y", "width", "height", "frame", "track")
_DOUBLES: Final = ("time_s",)


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

        return to_arrow(self)

    def to_pandas(self) -> Any:
        """Makes a ``pandas.DataFrame`` with the same columns; what does not apply is NaN, None or ``<NA>``.

        Raises:
            MissingDependencyError: pandas is not installed.
        """

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


def row_of(prediction: Prediction) -> dict[str, Cell]:
    """Gives a prediction's cells in the order of ``COLUMNS``; None where a column does not apply."""
    row: dict[str, Cell] = dict.fromkeys(COLUMNS)
    row |= {
        "path": valid_text(prediction.path),
        "face": prediction.face,
        "emotion": prediction.emotion,
        "confidence": _short(prediction.confidence),
        "status": prediction.status,
        "reason": valid_text(prediction.reason) or None,
        "face_score": _short(prediction.face_score),
        "time_s": None if prediction.time_s is None else round(prediction.time_s, _TIME_DIGITS),
        "frame": prediction.frame,
        "track": prediction.track,
    }
    values = prediction.probabilities  # all in one go, which takes half the time
    row.update(zip(LABELS, map(float, (_SEVERAL * len(values) % values).split()), strict=False))
    if prediction.box is not None:
        row.update(zip(("x", "y", "width", "height"), map(round, prediction.box), strict=True))  # whole pixels
    return row


def prediction_of(row: Mapping[str, Cell]) -> Prediction:
    """Makes a row's prediction again, the inverse of ``row_of``.

    Args:
        row: Cells by column; numbers may also be texts, and an empty text is None, as in CSV.

    Raises:
        ValueError: A cell holds what no table of ours does.
        KeyError: A column is missing.
    """
    box = [_float(row[column]) for column in ("x", "y", "width", "height")]
    probabilities = [_float(row[label]) for label in LABELS]
    emotion, status = str(row["emotion"] or "") or None, str(row["status"])
    if status not in (OK, NO_FACE, ERROR) or emotion not in (None, *LABELS):
        raise ValueError(f"no row of ours: {status!r}, {emotion!r}")
    return Prediction(
        path=str(row["path"]),
        emotion=emotion,
        confidence=_float(row["confidence"]),
        probabilities=tuple(value for value in probabilities if value is not None),
        status=status,
        reason=str(row["reason"] or ""),
        face=_int(row["face"]),
        box=None if None in box else tuple(box),  # type: ignore[arg-type]
        face_score=_float(row["face_score"]),
        time_s=_float(row["time_s"]),
        frame=_int(row["frame"]),
        track=_int(row["track"]),
    )


def _float(cell: Cell) -> float | None:
    return None if cell in (None, "") else float(cell)


def _int(cell: Cell) -> int | None:
    return None if cell in (None, "") else int(cell)


def valid_text(name: str) -> str:
    r"""Makes a file's name valid UTF-8: bytes of it that are not become ``\xNN``, in every format of output.

    Such names come from other systems or old archives. All others, with spaces, quotes and newlines as they may be,
    stay as they are: each format quotes them in its own way.
    """
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def import_pyarrow(what: str) -> Any:
    """Imports pyarrow, with ``pyarrow.parquet``.

    Args:
        what: What needs it, for the error.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(f"{what} (pyarrow)", "fer-deploy[parquet]") from error
    return pyarrow


def arrow_schema(pyarrow: Any) -> Any:
    """Gives the columns' types: strings, int32, float32, and float64 for ``time_s``; empty cells are null."""

    def kind(column: str) -> Any:
        if column in _STRINGS:
            return pyarrow.string()
        if column in _INTEGERS:
            return pyarrow.int32()
        return pyarrow.float64() if column in _DOUBLES else pyarrow.float32()

    return pyarrow.schema([(column, kind(column)) for column in COLUMNS])


def to_arrow(predictions: Iterable[Prediction]) -> Any:
    """Makes a ``pyarrow.Table``; see ``Predictions.to_arrow``."""
    pyarrow = import_pyarrow("What an Arrow table needs")
    return pyarrow.Table.from_pylist([row_of(each) for each in predictions], schema=arrow_schema(pyarrow))


def to_pandas(predictions: Iterable[Prediction]) -> Any:
    """Makes a ``pandas.DataFrame``; see ``Predictions.to_pandas``."""
    try:
        import pandas
    except ImportError as error:
        raise MissingDependencyError("What a data frame needs (pandas)", "pandas") from error
    rows = [row_of(each) for each in predictions]
    types = {column: "float64" if column in _DOUBLES else "float32" for column in COLUMNS if column not in _STRINGS}
    types |= dict.fromkeys(_INTEGERS, "Int32")  # pandas's own, which can be empty
    return pandas.DataFrame.from_records(rows, columns=list(COLUMNS)).astype(types)
