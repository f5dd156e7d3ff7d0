"""Predictions as tables of other libraries, with the columns of the inference table, which ``table.py`` lists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from fer_deploy.errors import MissingDependencyError
from fer_deploy.inference.predictions import Prediction
from fer_deploy.inference.table import COLUMNS, row_of

_STRINGS: Final = ("path", "emotion", "status", "reason")
_INTEGERS: Final = ("face", "x", "y", "width", "height", "frame", "track")
_DOUBLES: Final = ("time_s",)


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
