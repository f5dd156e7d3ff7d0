"""Parquet, by pyarrow."""

from __future__ import annotations

from typing import Any, Final

from fer_deploy.errors import MissingDependencyError
from fer_deploy.inference.sinks import Row, Sink
from fer_deploy.inference.table import COLUMNS

_STRINGS: Final = ("path", "emotion", "status", "reason")
_INTEGERS: Final = ("face", "x", "y", "width", "height", "frame", "track")
_GROUP_ROWS: Final = 16384


class ParquetSink(Sink):
    """Parquet in row groups of 16384; numbers are float32, int32 or (``time_s``) float64, empty cells are null."""

    _flush_rows = _GROUP_ROWS

    def __init__(self, target: str, overwrite: bool = False) -> None:
        super().__init__(target, overwrite)
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise MissingDependencyError("What writing Parquet needs (pyarrow)", "fer-deploy[parquet]") from error
        self._pyarrow: Any = pyarrow

    def _begin(self) -> None:
        self._schema = self._pyarrow.schema([(name, self._type(name)) for name in COLUMNS])
        self._writer = self._pyarrow.parquet.ParquetWriter(self._file, self._schema)

    def _type(self, column: str) -> Any:
        if column in _STRINGS:
            return self._pyarrow.string()
        if column in _INTEGERS:
            return self._pyarrow.int32()
        return self._pyarrow.float64() if column == "time_s" else self._pyarrow.float32()

    def _put(self, rows: list[Row]) -> None:
        self._writer.write_table(self._pyarrow.Table.from_pylist(rows, schema=self._schema))

    def _end(self) -> None:
        self._writer.close()

    def _give_up(self) -> None:
        self._writer.is_open = False  # else it tries again when it is collected, and complains on stderr
