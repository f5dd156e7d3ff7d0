"""Reads FER-2013 in any of the forms that people have it in."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fer_deploy.data import folder
from fer_deploy.data.csv import DAMAGED, open_table, read_table
from fer_deploy.data.fer2013 import (
    PARTITION_SIZES,
    PRIVATE,
    PUBLIC,
    TEST,
    TRAINING,
    BadRows,
    Fer2013,
    LabelledRow,
    Partition,
    Progress,
    assemble,
)
from fer_deploy.errors import DataError


def load_fer2013(
    path: str | Path, *, skip_bad: bool = False, tests_only: bool = False, progress: Progress | None = None
) -> Fer2013:
    """Reads FER-2013: Kaggle's zip, the same unpacked, ``fer2013.csv`` or ``icml_face_data.csv``, also packed.

    The form is told from the content, not from the name. Pictures come in the order of their file names, so that
    the same data set gives the same arrays in every form.

    Args:
        path: A zip, a folder, a CSV, or a CSV gzipped, zipped or in a tar.gz.
        skip_bad: Leave bad rows and files out and list them in ``skipped``, instead of stopping at the first.
        tests_only: Leave Training out, which makes reading pictures five times faster.
        progress: Called with what is done and the total while reading.

    Raises:
        DataError: It is not FER-2013, is damaged, or holds a bad row.
    """
    source = Path(path)
    bad = BadRows(source, skip_bad)
    data_format, rows, notes = _read(source, bad, tests_only, progress)
    if tests_only:
        rows = [row for row in rows if row.partition != TRAINING]
    partitions = assemble(rows, bad)
    if not partitions:
        reason = f"; the first bad one is {bad.found[0].where}: {bad.found[0].reason}" if bad.found else ""
        raise DataError(f"{source} is not FER-2013: it has no usable picture{reason}")
    return Fer2013(source, data_format, partitions, tuple(bad.found), (*notes, *_size_notes(partitions, tests_only)))


def _read(
    source: Path, bad: BadRows, tests_only: bool, progress: Progress | None
) -> tuple[str, list[LabelledRow], list[str]]:
    if source.is_dir():
        root = folder.folder_root(source)
        if root is None:
            return "csv", *_read_table(folder.folder_table(source), None, bad, progress)
        entries, notes = folder.folder_entries(root)
        rows, more = folder.read_images(source, entries, bad, progress, tests_only)
        return "folder", rows, notes + more
    if not _starts_as_zip(source):
        return "csv", *_read_table(source, None, bad, progress)
    with _open_zip(source) as archive:
        entries, notes = folder.zip_entries(source, archive)
        if entries:
            rows, more = folder.read_images(source, entries, bad, progress, tests_only)
            return "zip", rows, notes + more
        table = folder.zip_table(source, archive)
    return "csv", *_read_table(source, table, bad, progress)


def _read_table(
    source: Path, entry: str | None, bad: BadRows, progress: Progress | None
) -> tuple[list[LabelledRow], list[str]]:
    with open_table(source, entry) as table:
        return read_table(table, bad, progress), []


def _starts_as_zip(source: Path) -> bool:
    try:
        with source.open("rb") as file:
            start = file.read(4)
    except FileNotFoundError as error:
        raise DataError(f"{source} does not exist; expected FER-2013 as a zip, a folder or a CSV") from error
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror}") from error
    if not start:
        raise DataError(f"{source} is empty (0 bytes); expected FER-2013 as a zip, a folder or a CSV")
    return start in (b"PK\x03\x04", b"PK\x05\x06")


@contextmanager
def _open_zip(source: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(source) as archive:
            yield archive
    except DAMAGED as error:
        raise DataError(
            f"{source} is a truncated or damaged zip ({error}); expected a whole FER-2013. Download or copy it again"
        ) from error


def _size_notes(partitions: Mapping[str, Partition], tests_only: bool) -> list[str]:
    expected = dict(PARTITION_SIZES)
    if TEST in partitions and not {PUBLIC, PRIVATE} & partitions.keys():
        expected = {TRAINING: expected[TRAINING], TEST: expected[PUBLIC] + expected[PRIVATE]}
    if tests_only:
        del expected[TRAINING]
    notes = []
    for name, size in expected.items():
        if name not in partitions:
            notes.append(f"{name} is missing; the published set has {size:,} pictures there")
        elif len(partitions[name]) != size:
            notes.append(f"{name} has {len(partitions[name]):,} pictures, the published set {size:,}")
    return notes
