"""Reads ``fer2013.csv`` and ``icml_face_data.csv``: plain, gzipped or zipped.

The ``pixels`` column of FER-2013's CSV: 2,304 numbers with spaces between them.
"""

from __future__ import annotations

import csv
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, NamedTuple, cast

import numpy as np

from fer_deploy.data.fer2013 import PARTITIONS, PIXELS, BadRows, LabelledRow, Progress, check_count, name_problem
from fer_deploy.errors import DataError
from fer_deploy.labels import LABELS, NUM_CLASSES

MAX_LINE: Final = 1 << 16
"""Bytes of a line; a row of FER-2013 has at most 9,300."""
MAX_TABLE_BYTES: Final = 1 << 30
"""Three times fer2013.csv; a gzip or zip that unpacks to more is no FER-2013."""
_PROGRESS_ROWS: Final = 200
DAMAGED: Final = (
    EOFError, NotImplementedError, UnicodeDecodeError,
    gzip.BadGzipFile, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What the unpackers raise on damaged or exotic archives."""
_ZERO = ord("0")
_SPACE = (ord(" ") - _ZERO) % 256


class Table(NamedTuple):
    """An open CSV.

    Args:
        source: What the user named.
        stream: Its unpacked bytes.
        position: Gives how many of ``total`` bytes are read.
        total: Size of what is read from: of the file, or of the unpacked zip entry.
    """

    source: Path
    stream: IO[bytes]
    position: Callable[[], int]
    total: int


class _Columns(NamedTuple):
    emotion: int
    pixels: int
    usage: int
    name: int | None
    width: int


@contextmanager
def open_table(source: Path, entry: str | None = None) -> Iterator[Table]:
    """Opens a CSV, taking off gzip and, as in Kaggle's first release, tar.

    Args:
        source: A CSV, a gzip, a tar.gz, or a zip.
        entry: The CSV's name inside a zip.

    Raises:
        DataError: The file is damaged, unreadable, or too large to be FER-2013; also what is raised while reading.
    """
    try:
        with source.open("rb") as file:
            if entry is not None:
                with zipfile.ZipFile(file) as archive, archive.open(entry) as unpacked:
                    stream = io.BufferedReader(cast(io.RawIOBase, unpacked))  # its own readline is slow
                    yield Table(source, stream, unpacked.tell, archive.getinfo(entry).file_size)
            else:
                yield Table(source, _unpacked(file), file.tell, source.stat().st_size)
    except DAMAGED as error:
        raise DataError(
            f"{source} is truncated or damaged ({error}); expected a whole FER-2013. Download or copy it again"
        ) from error
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or error}") from error


def read_table(table: Table, bad: BadRows, progress: Progress | None) -> list[LabelledRow]:
    """Reads the rows of a CSV with the columns emotion, pixels and Usage, in any order.

    Raises:
        DataError: It is not FER-2013, or a row is bad and bad rows are not to be skipped.
    """
    lines = _lines(table)
    header = next(lines, "")
    columns = _columns(table.source, header)
    positions: Counter[str] = Counter()
    rows: list[LabelledRow] = []
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        try:
            rows.append(_row(number, line, columns, positions))
        except ValueError as error:
            bad.add(f"line {number}", str(error))
        if number % _PROGRESS_ROWS == 0:
            check_count(table.source, number)
            if progress is not None:
                progress(table.position(), table.total)
    if progress is not None:
        progress(table.total, table.total)
    return rows


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if not packed:
        return file
    unpacked = gzip.GzipFile(fileobj=file)
    is_tar = unpacked.peek(512)[257:262] == b"ustar"
    stream = cast(IO[bytes], unpacked)
    return _tar_member(stream) if is_tar else stream


def _tar_member(stream: IO[bytes]) -> IO[bytes]:
    archive = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115  # lives as long as its member is read
    for member in archive:
        if member.isfile() and member.name.endswith(".csv"):
            content = archive.extractfile(member)
            if content is not None:
                return content
    raise tarfile.ReadError("the tar holds no CSV")


def _lines(table: Table) -> Iterator[str]:
    """Yields lines, bounded in length and number of bytes so that no archive can fill the memory."""
    total = 0
    while line := table.stream.readline(MAX_LINE + 1):
        total += len(line)
        if len(line) > MAX_LINE or total > MAX_TABLE_BYTES:
            limit = f"a line of more than {MAX_LINE:,}" if len(line) > MAX_LINE else f"more than {MAX_TABLE_BYTES:,}"
            raise DataError(
                f"{table.source} is not FER-2013: it has {limit} bytes. "
                "Expected a CSV with the columns emotion, pixels and Usage"
            )
        yield line.decode("utf-8", errors="replace")


def _columns(source: Path, header: str) -> _Columns:
    names = [name.strip().strip('"').lower() for name in header.removeprefix("\ufeff").split(",")]
    missing = [name for name in ("emotion", "pixels", "usage") if name not in names]
    if missing:
        shown = header.strip()[:60]
        raise DataError(
            f"{source} is not FER-2013: its first line is {shown!r}, without {' or '.join(missing)}. Expected Kaggle's "
            "zip, the same unpacked, or a CSV with the columns emotion, pixels and Usage (fer2013.csv)"
        )
    name = names.index("name") if "name" in names else None
    return _Columns(names.index("emotion"), names.index("pixels"), names.index("usage"), name, len(names))


def _row(number: int, line: str, columns: _Columns, positions: Counter[str]) -> LabelledRow:
    try:
        fields = next(csv.reader([line.rstrip("\r\n")]))
    except csv.Error as error:
        raise ValueError(f"the line is not CSV ({error})") from error
    if len(fields) != columns.width:
        raise ValueError(f"the line has {len(fields)} fields, expected {columns.width}")
    usage = fields[columns.usage].strip()
    if usage not in PARTITIONS:
        raise ValueError(f"Usage is {usage[:40]!r}, expected Training, PublicTest or PrivateTest")
    position = positions[usage]
    positions[usage] += 1  # bad rows count too, so that the others keep their names when one is mended
    emotion = fields[columns.emotion].strip()
    if emotion not in _EMOTIONS:
        raise ValueError(f"emotion is {emotion[:40]!r}, expected 0 to {NUM_CLASSES - 1} ({', '.join(LABELS)})")
    label = int(emotion)
    stem = made_name(usage, position)
    if columns.name is not None:
        stem = fields[columns.name].removeprefix(f"{LABELS[label]}/")
        if problem := name_problem(stem):
            raise ValueError(problem)
    return LabelledRow(usage, label, stem, parse_pixels(fields[columns.pixels]), f"line {number}")


def made_name(partition: str, position: int) -> str:
    """The name of a CSV row that has none of its own."""
    return f"{partition}_{position:05d}"


_EMOTIONS: Final = frozenset(str(label) for label in range(NUM_CLASSES))


def parse_pixels(text: str) -> bytes:
    """Reads the pixels of one picture.

    Args:
        text: 2,304 decimal numbers from 0 to 255, row by row, separated by spaces.

    Returns:
        2,304 bytes.

    Raises:
        ValueError: There are more or fewer numbers, or one of them is none; the text says which.
    """
    fast = _parse_clean(text)
    return _parse_slowly(text) if fast is None else fast


def _parse_clean(text: str) -> bytes | None:
    """Reads a row that is as it should be, all digits at once (0.04 ms); None for any other.

    Split and int() take five times as long, which makes ten seconds for the whole data set.
    """
    if not text.isascii():
        return None
    # Three spaces in front let every number have a hundreds, a tens and one more place to the left.
    codes = np.frombuffer(b"   " + text.encode("ascii") + b" ", np.uint8) - np.uint8(_ZERO)
    digit = codes < 10
    last = np.flatnonzero(digit[:-1] & ~digit[1:])  # where each number has its last digit
    if len(last) != PIXELS or not np.all(digit | (codes == _SPACE)):
        return None
    tens = digit[last - 1]
    hundreds = tens & digit[last - 2]
    if np.any(hundreds & digit[last - 3]):
        return None
    values = codes[last].astype(np.int16)
    values += np.where(tens, codes[last - 1], np.uint8(0)) * np.int16(10)
    values += np.where(hundreds, codes[last - 2], np.uint8(0)) * np.int16(100)
    return values.astype(np.uint8).tobytes() if values.max() <= 255 else None


def _parse_slowly(text: str) -> bytes:
    tokens = text.split()
    if len(tokens) != PIXELS:
        raise ValueError(f"the row has {len(tokens)} pixels, expected {PIXELS} (48 x 48)")
    return bytes(_pixel(position, token) for position, token in enumerate(tokens, start=1))


def _pixel(position: int, token: str) -> int:
    number = token.removeprefix("-")
    if not (number.isascii() and number.isdigit()):
        raise ValueError(f"pixel {position} is {token[:20]!r}, expected a whole number from 0 to 255")
    if len(number) > 3 or not 0 <= int(token) <= 255:
        raise ValueError(f"pixel {position} is {token[:20]}, expected 0 to 255")
    return int(token)
