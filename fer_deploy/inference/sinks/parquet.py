"""Parquet, by pyarrow.

A Parquet file's table of contents is written last, so that a file which a kill has cut off is lost. Therefore rows are
written to files of their own, ``out.parquet.parts/part-00000.parquet`` and so on, each whole before it gets its name.
That folder can be read at any time (``pandas.read_parquet``, ``pyarrow.dataset``), and a run that ends, or is
interrupted, makes one file of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from fer_deploy.inference.prediction import arrow_schema, import_pyarrow, prediction_of
from fer_deploy.inference.sinks.resume import EarlierRow
from fer_deploy.inference.sinks.sink import PARTS, Cells, Sink

_GROUP_ROWS: Final = 16384
_PART_ROWS: Final = 2048
_PART_S: Final = 10.0
_READ_ROWS: Final = 4096
_PARTIAL: Final = ".partial"


class ParquetSink(Sink):
    """Parquet in row groups of 16384; numbers are float32, int32 or (``time_s``) float64, empty cells are null."""

    _flush_rows, _flush_s = _PART_ROWS, _PART_S

    def __init__(self, target: str, overwrite: bool = False) -> None:
        super().__init__(target, overwrite)
        self._pyarrow: Any = import_pyarrow("What writing Parquet needs")
        self._schema = arrow_schema(self._pyarrow)
        self._whole = Path(target)
        self._parts = Path(target + PARTS)

    def flush_every_row(self) -> None:
        """Changes nothing: a part with a few rows is read slowly."""

    def _open(self) -> None:
        if self._place is None and self._whole.exists() and not self.overwrite:
            raise FileExistsError(self.target)
        self._parts.mkdir(exist_ok=True)
        self._folder = os.open(self._parts, os.O_RDONLY)
        self._lock(self._folder)
        for left_over in self._parts.glob(f"*{_PARTIAL}"):
            left_over.unlink()
        if self._place is None:
            self._whole.unlink(missing_ok=True)
        if self._whole.exists():  # made of the parts, some of which may still lie there
            self._cut(0)
            self._whole.rename(self._parts / _name(0))
        self._cut(self._place or 0)

    def _cut(self, rows: int) -> None:
        """Keeps the first rows of all parts."""
        for part in self._files():
            count = self._count(part) if rows else 0
            if rows >= count > 0:
                rows -= count
                continue
            if rows:
                self._write(part, self._pyarrow.parquet.read_table(part, schema=self._schema).slice(0, rows))
            else:
                part.unlink()
            rows = 0

    def _count(self, part: Path) -> int:
        try:
            return int(self._pyarrow.parquet.read_metadata(part).num_rows)
        except ValueError:
            return 0

    def _files(self) -> list[Path]:
        return sorted(self._parts.glob("part-*.parquet"))

    def _read(self) -> Iterator[EarlierRow]:
        place = 0
        for file in [self._whole] if self._whole.exists() else self._files():
            try:
                for batch in self._pyarrow.parquet.ParquetFile(file).iter_batches(_READ_ROWS):
                    for cells in batch.to_pylist():
                        place += 1
                        yield prediction_of(cells), place
            except (
                ValueError,
                KeyError,
            ):  # pyarrow's errors of damaged files are ValueErrors: what comes is done again
                return

    def _put(self, rows: list[Cells]) -> None:
        files = self._files()
        number = int(files[-1].stem.removeprefix("part-")) + 1 if files else 0
        self._write(self._parts / _name(number), self._pyarrow.Table.from_pylist(rows, schema=self._schema))

    def _write(self, part: Path, table: Any) -> None:
        partial = part.with_name(part.name + _PARTIAL)
        with partial.open("wb") as file:
            self._pyarrow.parquet.write_table(table, file)
        partial.replace(part)

    def _end(self) -> None:
        """Makes one file of the parts."""
        files = self._files()
        if len(files) == 1:
            files[0].replace(self._whole)
        else:
            partial = self._parts / f"whole{_PARTIAL}"
            with partial.open("wb") as file, self._pyarrow.parquet.ParquetWriter(file, self._schema) as writer:
                for group in self._groups(files):
                    writer.write_table(group)
            partial.replace(self._whole)
        shutil.rmtree(self._parts)

    def _groups(self, files: list[Path]) -> Iterator[Any]:
        """Puts parts together until they make a row group."""
        tables: list[Any] = []
        for part in files:
            tables.append(self._pyarrow.parquet.read_table(part, schema=self._schema))
            if sum(table.num_rows for table in tables) >= _GROUP_ROWS or part == files[-1]:
                yield self._pyarrow.concat_tables(tables).combine_chunks()
                tables = []

    def _sync(self) -> None:
        pass

    def _close(self) -> None:
        os.close(self._folder)


def _name(number: int) -> str:
    return f"part-{number:05}.parquet"
