"""Where tables are written: CSV, JSON Lines, Parquet, or one JSON object, each row as it comes.

An interrupted run leaves a valid table with all rows so far. After a kill that no program can answer, CSV and JSON
Lines hold all rows but the last few (``FLUSH_ROWS``, or those of a second), and perhaps a part of one more; of Parquet,
see ``parquet.py``. A table is locked while a run writes it. Where a run may be resumed, its ``Journal`` lies beside the
table until the table is done:

1. ``find_place`` reads what an earlier run has left, and tells where this one goes on;
2. entering cuts off what lies behind that;
3. ``rows_so_far`` gives the rows that are there, for whatever else wants all rows of a run.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from fer_deploy.errors import OutputError
from fer_deploy.inference.prediction import Cell, Prediction, row_of
from fer_deploy.inference.sinks.resume import EarlierRow, ResumeState, by_image, path_of

STDOUT: Final = "-"
_STDOUT_NAME: Final = "standard output"
FLUSH_ROWS: Final = 64
FLUSH_S: Final = 1.0
PARTS: Final = ".parts"
"""What is added to the name of a Parquet table for the folder of its parts."""
Cells = Mapping[str, Cell]


@contextmanager
def explained(target: str) -> Iterator[None]:
    """Makes errors of ours of what the system says, but for a file that exists already and a reader that has left.

    Args:
        target: What is written: a file, or ``-`` for standard output.
    """
    try:
        yield
    except (BrokenPipeError, FileExistsError):  # whoever reads our standard output has seen enough: no error
        raise
    except OSError as error:
        where = _STDOUT_NAME if target == STDOUT else target
        raise OutputError(f"cannot write to {where}: {(error.strerror or str(error)).lower()}") from error


def standard_output() -> BinaryIO:
    """Gives standard output for bytes.

    Raises:
        OutputError: It is closed.
    """
    if sys.stdout is None:
        raise OutputError(f"cannot write to {_STDOUT_NAME}: it is closed")
    return sys.stdout.buffer


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
        self.resume_state: ResumeState | None = None
        self._rows: list[Cells] = []
        self._flushed = time.monotonic()
        self._place: int | None = None
        self._file: BinaryIO

    def write(self, prediction: Prediction) -> None:
        """Adds a row."""
        self._rows.append(row_of(prediction))
        if len(self._rows) >= self._flush_rows or time.monotonic() - self._flushed > self._flush_s:
            self._flush()

    _flush_rows, _flush_s = FLUSH_ROWS, FLUSH_S

    def flush_every_row(self) -> None:
        """Has each row written as it comes, for who reads them meanwhile; Parquet keeps to its parts."""
        self._flush_rows = 1

    def seek_resume_point(self, take: Callable[[str], None]) -> None:
        """Finds where an earlier run's rows end that count; nothing is changed yet.

        Args:
            take: Called with the name of each picture whose rows count.
        """
        self._place = 0
        with self._explained():
            for rows, end in by_image(self._read()):
                take(rows[0].path)
                self._place = end

    def existing_rows(self) -> Iterator[Prediction]:
        """Gives the rows of an earlier run; after entering, and before the first row is added."""
        if self._place:
            yield from (row for row, _ in self._read())

    def _read(self) -> Iterator[EarlierRow]:
        """Reads the rows that lie in the target."""
        raise OutputError(f"{self.target} cannot be resumed")

    def _flush(self) -> None:
        rows, self._rows = self._rows, []  # first, so that an interrupt cannot make rows come twice
        self._flushed = time.monotonic()
        if rows:
            with self._explained():
                self._put(rows)
                self._sync()

    def __enter__(self) -> Self:
        with self._explained():
            self._open()
            if self.resume_state is not None:
                self.resume_state.begin()
            if not self._place:
                self._begin()
        return self

    def _open(self) -> None:
        if self.target == STDOUT:
            self._file = standard_output()
            return
        mode = "r+b" if self._place is not None else "ab" if self.overwrite else "xb"  # none empties it before the lock
        self._file = Path(self.target).open(mode)  # type: ignore[assignment]  # noqa: SIM115
        self._lock(self._file.fileno())
        place = self._place or 0
        if os.fstat(self._file.fileno()).st_size > place:
            self._file.truncate(place)
        if place:
            self._file.seek(place)

    def _lock(self, descriptor: int) -> None:
        """Keeps other runs out until the descriptor is closed."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._close()
            raise OutputError(
                f"{self.target} is being written by another run: wait until that ends, or choose another name"
            ) from error
        except OSError:  # a file system without locks
            pass

    def _sync(self) -> None:
        self._file.flush()

    def _close(self) -> None:
        if self.target != STDOUT:
            self._file.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._flush()
            with self._explained():
                self._end()
                self._sync()
        except BaseException:
            self._give_up()
            raise
        finally:
            with self._explained():
                self._close()
        if kind is None and self.resume_state is not None:
            self.resume_state.end()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with explained(self.target):
                yield
        except FileExistsError as error:
            from fer_deploy.system.files import exists_already

            raise OutputError(exists_already(self.target, or_resume(self.target))) from error

    def _begin(self) -> None:  # noqa: B027  (not every format has a beginning or an end)
        pass

    def _end(self) -> None:  # noqa: B027
        pass

    def _give_up(self) -> None:  # noqa: B027
        pass

    @abstractmethod
    def _put(self, rows: list[Cells]) -> None:
        """Writes rows to ``self._file``."""


def or_resume(target: str) -> str:
    """Returns the hint at ``--resume`` for a target that can be resumed, else an empty text."""
    return ", add --resume to go on with it," if path_of(target).exists() else ""
