"""Writes predictions as CSV, JSON Lines or one JSON object; and opens the sink that a target's name asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from fer_deploy.errors import UsageError
from fer_deploy.inference.sinks.resume import HEADER, EarlierRow, csv_rows, json_rows
from fer_deploy.inference.sinks.sink import PARTS, STDOUT, Cells, Sink, or_resume

_NEEDS_QUOTES: Final = re.compile(r'[,"\r\n]').search


class CsvSink(Sink):
    """CSV in UTF-8 with a header, lines ending in a line feed; empty cells are empty."""

    def _begin(self) -> None:
        self._file.write(HEADER.encode())

    def _read(self) -> Iterator[EarlierRow]:
        return csv_rows(Path(self.target))

    def _put(self, rows: list[Cells]) -> None:
        lines = (",".join(["" if cell is None else _csv_cell(cell) for cell in row.values()]) + "\n" for row in rows)
        self._file.write("".join(lines).encode())


def _csv_cell(value: str | float) -> str:
    """Quotes what needs it; the csv module leaves a carriage return unquoted when lines end in a line feed."""
    if not isinstance(value, str):
        return str(value)
    return '"' + value.replace('"', '""') + '"' if _NEEDS_QUOTES(value) else value


class JsonLinesSink(Sink):
    """One JSON object per line; empty cells are null."""

    def _read(self) -> Iterator[EarlierRow]:
        return json_rows(Path(self.target))

    def _put(self, rows: list[Cells]) -> None:
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

    def _put(self, rows: list[Cells]) -> None:
        for row in rows:
            self._file.write((self._separator + json.dumps(row)).encode())
            self._separator = ",\n"

    def _end(self) -> None:
        self._file.write(("\n], " + json.dumps(self._after())[1:] + "\n").encode())


def is_there(target: str) -> bool:
    """Tells whether a table, or the parts of one, lies there already."""
    return Path(target).exists() or Path(target + PARTS).is_dir()


def table_sink(target: str, overwrite: bool = False, resume: bool = False) -> Sink:
    """Makes the sink that fits an output's name, without opening it yet.

    Args:
        target: A name that ends in ``.csv``, ``.jsonl`` or ``.parquet``, or ``-`` for CSV on standard output.
        overwrite: Whether a file that exists already is replaced.
        resume: Whether one that exists already may be gone on with; see ``Sink.find_place``.

    Raises:
        UsageError: The name has another ending.
        OutputError: The file exists already, or cannot lie there.
        MissingDependencyError: Parquet was asked for and pyarrow is not installed.
    """
    suffix = ".csv" if target == STDOUT else Path(target).suffix.lower()
    if suffix not in (".csv", ".jsonl", ".parquet"):
        raise UsageError(f"The output {target!r} must end in .csv, .jsonl or .parquet, or be - for standard output")
    if target != STDOUT and not resume:
        from fer_deploy.system.files import check_writable

        check_writable(target, overwrite, hint=or_resume(target))
    if suffix == ".parquet":
        from fer_deploy.inference.sinks.parquet import ParquetSink

        return ParquetSink(target, overwrite)
    return (CsvSink if suffix == ".csv" else JsonLinesSink)(target, overwrite)
