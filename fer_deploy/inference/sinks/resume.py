"""What a run that was killed has left in its table: which rows count, and which pictures they are of.

Rows count up to the last whole one. Where a picture or a clip may have more rows than one, the last one's rows do not
count, since some may be missing: it is done again as a whole.

What lies beside a table while a run writes it: with which settings, so that ``--resume`` goes on with the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar

from fer_deploy.errors import OutputError
from fer_deploy.images.archive import ARCHIVE_SUFFIX
from fer_deploy.images.sources import Source
from fer_deploy.inference.prediction import COLUMNS, ERROR, Prediction, prediction_of, valid_text

End = TypeVar("End")
EarlierRow = tuple[Prediction, int]
"""A row, and where the table may be cut right behind it."""
HEADER = ",".join(COLUMNS) + "\n"
_SUFFIX: Final = ".resume.json"


def csv_rows(path: Path) -> Iterator[EarlierRow]:
    """Reads the whole rows of a CSV table of ours; what is cut off or damaged ends it. Ends are bytes.

    Raises:
        OutputError: It does not begin as our tables do.
    """
    import csv

    with path.open("rb") as file:
        header = file.readline()
        if header != HEADER.encode():
            if HEADER.encode().startswith(header):  # killed before even that was written
                return
            raise OutputError(f"{path} is no table of ours (its first line is another); choose another name")
        end, record = len(header), b""
        for line in file:
            record += line
            if record.count(b'"') % 2:  # a line break inside quotes
                continue
            if not record.endswith(b"\n"):
                return
            try:
                (cells,) = csv.reader([record[:-1].decode()], strict=True)
                row = prediction_of(dict(zip(COLUMNS, cells, strict=True)))
            except (ValueError, csv.Error):
                return
            end, record = end + len(record), b""
            yield row, end


def json_rows(path: Path) -> Iterator[EarlierRow]:
    """Reads the whole rows of a JSON Lines table of ours; what is cut off or damaged ends it. Ends are bytes.

    Raises:
        OutputError: Its first line is whole, and no row of ours.
    """
    end = 0
    with path.open("rb") as file:
        for line in file:
            try:
                row = prediction_of(json.loads(line)) if line.endswith(b"\n") else None
            except (ValueError, KeyError, TypeError) as error:
                if end == 0:
                    raise OutputError(f"{path} is no table of ours; choose another name") from error
                return
            if row is None:
                return
            end += len(line)
            yield row, end


def by_image(rows: Iterable[tuple[Prediction, End]]) -> Iterator[tuple[list[Prediction], End]]:
    """Puts the rows of each picture or clip together; the last one is left out unless it surely has no more rows.

    Yields:
        The rows, and where the last of them ends.
    """
    group: list[Prediction] = []
    last: tuple[End] | None = None
    for row, end in rows:
        if group and last and not _goes_on(group[-1], row):
            yield group, last[0]
            group = []
        group.append(row)
        last = (end,)
    if group and last and group[-1].face is None and group[-1].frame is None:
        yield group, last[0]


def _goes_on(before: Prediction, row: Prediction) -> bool:
    """Tells whether a row is of the same picture or clip as the one before; the same file may come twice in a run."""
    if before.path != row.path:
        return False
    if before.frame is not None:
        return row.status == ERROR or (row.frame is not None and row.frame >= before.frame)
    return before.face is not None and row.face is not None and row.face > before.face


class Match:
    """Finds for each picture of a table the source that it is of.

    Sources come in the same order in every run. A file that was removed meanwhile keeps its rows. One that was added
    among those that are done would have to stand in the middle of the table, so this is refused.

    Args:
        target: What the table is called, for errors.
        sources: All sources from the first on; afterwards it is at the first one that is not done.
    """

    def __init__(self, target: str, sources: Iterator[Source]) -> None:
        self._target = target
        self._sources = sources
        self._next: Source | None = None
        self._names: dict[str, str] = {}
        self.done = 0

    def __call__(self, path: str) -> None:
        """Takes the next picture's name as the table has it.

        Raises:
            OutputError: Another source comes there now.
        """
        self._next = self._next or next(self._sources, None)
        name = None if self._next is None else valid_text(self._next.name)
        if name == path:
            if self._next is not None and self._next.name != path:
                self._names[path] = self._next.name
            self._next = None
            self.done += 1
        elif not _removed(path):
            there = "nothing" if name is None else repr(name)
            raise OutputError(
                f"{self._target} cannot be resumed: its picture {self.done + 1} is {path!r}, and now {there} comes "
                "there (files were added, or other inputs given); --overwrite begins anew"
            )

    def name(self, path: str) -> str:
        """Gives a picture's real name; tables hold no bytes that are not UTF-8."""
        return self._names.get(path, path)

    def rest(self) -> Iterator[Source]:
        """Gives the sources that are not done."""
        if self._next is not None:
            yield self._next
        yield from self._sources


def _removed(path: str) -> bool:
    """Tells whether a file is surely not there any more; of an archive's members and of odd names this is unsure."""
    return not os.path.lexists(path) and ARCHIVE_SUFFIX + "/" not in path.lower() and "\\x" not in path


class ResumeState:
    """A small JSON file beside a table; it is there as long as the table is not done.

    Args:
        target: The table.
        settings: What decides about the rows, as name and text.
    """

    def __init__(self, target: str, settings: Mapping[str, str]) -> None:
        self.path = path_of(target)
        self._target = target
        self._settings = dict(settings)

    def check(self) -> None:
        """Compares with the settings of the run that began the table.

        Raises:
            OutputError: They differ, or the journal cannot be read.
        """
        try:
            started = dict(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise OutputError(f"{self.path} cannot be read ({error}); --overwrite begins anew") from error
        for name in {**started, **self._settings}:
            before, now = started.get(name, "not given"), self._settings.get(name, "not given")
            if before != now:
                raise OutputError(
                    f"{self._target} was begun with {name} {before}, and now it is {now}; "
                    "give the same to resume it, or begin anew with --overwrite"
                )

    def begin(self) -> None:
        """Writes it."""
        from fer_deploy.system.files import written_whole

        with written_whole(self.path) as partial:
            partial.write_text(json.dumps(self._settings, indent=1) + "\n", encoding="utf-8")

    def end(self) -> None:
        """Removes it: the table is done."""
        self.path.unlink(missing_ok=True)


def path_of(target: str) -> Path:
    """Names a table's journal."""
    return Path(target + _SUFFIX)
