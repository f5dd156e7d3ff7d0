"""The inference table: its columns, and a prediction as one of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fer_deploy.inference.predictions import ERROR, NO_FACE, OK, Prediction
from fer_deploy.labels import LABELS

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
