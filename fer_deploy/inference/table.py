"""The inference table: its columns, and a prediction as one of its rows."""

from __future__ import annotations

from typing import Final

from fer_deploy.inference.predictions import Prediction
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


def valid_text(name: str) -> str:
    r"""Makes a file's name valid UTF-8: bytes of it that are not become ``\xNN``, in every format of output.

    Such names come from other systems or old archives. All others, with spaces, quotes and newlines as they may be,
    stay as they are: each format quotes them in its own way.
    """
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")
