"""Where tables are written: CSV, JSON Lines, Parquet, or one JSON object, each row as it comes.

An interrupted run leaves a valid table with all rows so far. After a kill that no program can answer, CSV and JSON
Lines hold all rows but the last few (``FLUSH_ROWS``); Parquet, whose table of contents is written last, is lost.
"""

from __future__ import annotations

import json
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

from fer_deploy.errors import OutputError, UsageError
from fer_deploy.inference.predictions import Prediction
from fer_deploy.inference.table import COLUMNS, Cell, row_of

STDOUT: Final = "-"
FLUSH_ROWS: Final = 64
_NEEDS_QUOTES: Final = re.compile(r'[,"\r\n]').search

Row = Mapping[str, Cell]


class Sink(ABC):
    """A table that is being written: a context manager; leaving it finishes the table, whatever the reason.

    Args:
        target: A file that is made new, or ``-`` for standard output.
        overwrite: Whether a file that exists already is replaced.

    Raises:
        OutputError: From every method, when it cannot be written (it exists, no permission, disk full, ...).
    """

    def __init__(self, target: str, overwrite: bool = False) -> None:
        self.target = target
        self.overwrite = overwrite
        self._rows: list[Row] = []
        self._file: BinaryIO

    def write(self, prediction: Prediction) -> None:
        """Adds a row."""
        self._rows.append(row_of(prediction))
        if len(self._rows) >= self._flush_rows:
            self._flush()

    _flush_rows = FLUSH_ROWS

    def _flush(self) -> None:
        rows, self._rows = self._rows, []  # first, so that an interrupt cannot make rows come twice
        if rows:
            with self._explained():
                self._put(rows)
                self._file.flush()

    def __enter__(self) -> Self:
        with self._explained():
            if self.target == STDOUT:
                self._file = sys.stdout.buffer
            else:
                self._file = Path(self.target).open("wb" if self.overwrite else "xb")
            self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._flush()
            with self._explained():
                self._end()
                self._file.flush()
        except BaseException:
            self._give_up()
            raise
        finally:
            if self.target != STDOUT:
                with self._explained():
                    self._file.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:  # whoever reads our standard output has seen enough: no error
            raise
        except FileExistsError as error:
            raise OutputError(f"{self.target} exists already; choose another name or add --overwrite") from error
        except OSError as error:
            where = "standard output" if self.target == STDOUT else self.target
            raise OutputError(f"cannot write to {where}: {(error.strerror or str(error)).lower()}") from error

    def _begin(self) -> None:  # noqa: B027  (not every format has a beginning or an end)
        pass

    def _end(self) -> None:  # noqa: B027
        pass

    def _give_up(self) -> None:  # noqa: B027
        pass

    @abstractmethod
    def _put(self, rows: list[Row]) -> None:
        """Writes rows to ``self._file``."""


class CsvSink(Sink):
    """CSV in UTF-8 with a header, lines ending in a line feed; empty cells are empty."""

    def _begin(self) -> None:
        self._file.write((",".join(COLUMNS) + "\n").encode())

    def _put(self, rows: list[Row]) -> None:
        lines = (",".join(map(_csv_cell, row.values())) + "\n" for row in rows)
        self._file.write("".join(lines).encode())


def _csv_cell(value: Cell) -> str:
    """Quotes what needs it; the csv module leaves a carriage return unquoted when lines end in a line feed."""
    if not isinstance(value, str):
        return "" if value is None else str(value)
    return '"' + value.replace('"', '""') + '"' if _NEEDS_QUOTES(value) else value


class JsonLinesSink(Sink):
    """One JSON object per line; empty cells are null."""

    def _put(self, rows: list[Row]) -> None:
        self._file.write("".join(json.dumps(row) + "\n" for row in rows).encode())


class JsonSink(Sink):
    """One JSON object: what is known before, ``rows``, then what is known after.

    Args:
        before: The first keys.
        after: Called in the end, gives the last keys.
    """

    def __init__(self, before: Mapping[str, Any], after: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__(STDOUT)
        self._before, self._after = before, after
        self._separator = "\n"

    def _begin(self) -> None:
        self._file.write((json.dumps(self._before)[:-1] + ', "rows": [').encode())

    def _put(self, rows: list[Row]) -> None:
        for row in rows:
            self._file.write((self._separator + json.dumps(row)).encode())
            self._separator = ",\n"

    def _end(self) -> None:
        self._file.write(("\n], " + json.dumps(self._after())[1:] + "\n").encode())


def table_sink(target: str, overwrite: bool = False) -> Sink:
    """Makes the sink that fits an output's name, without opening it yet.

    Args:
        target: A name that ends in ``.csv``, ``.jsonl`` or ``.parquet``, or ``-`` for CSV on standard output.
        overwrite: Whether a file that exists already is replaced.

    Raises:
        UsageError: The name has another ending.
        OutputError: The file exists already, or cannot lie there.
        MissingDependencyError: Parquet was asked for and pyarrow is not installed.
    """
    suffix = ".csv" if target == STDOUT else Path(target).suffix.lower()
    if suffix not in (".csv", ".jsonl", ".parquet"):
        raise UsageError(f"The output {target!r} must end in .csv, .jsonl or .parquet, or be - for standard output")
    if target != STDOUT and not overwrite and Path(target).exists():  # told before a model is loaded in vain
        raise OutputError(f"{target} exists already; choose another name or add --overwrite")
    if suffix == ".parquet":
        from fer_deploy.inference.parquet import ParquetSink

        return ParquetSink(target, overwrite)
    return (CsvSink if suffix == ".csv" else JsonLinesSink)(target, overwrite)
