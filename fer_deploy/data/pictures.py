"""Reads FER-2013 as pictures: ``train/<class>/x.png`` and ``test/<class>/x.png``, in a zip or in a folder."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from PIL import Image, UnidentifiedImageError

from fer_deploy.data.fer2013 import PRIVATE, PUBLIC, TEST, TRAINING, Progress
from fer_deploy.data.rows import BadRows, Row, check_count, name_problem
from fer_deploy.labels import IMAGE_SIZE, LABELS

MAX_PICTURE_BYTES: Final = 1 << 20
SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".bmp")
FOLDERS: Final = ("train", "test")
_JUNK: Final = ("__macosx", "thumbs.db", "desktop.ini")

Reader = Callable[[], bytes]


class Entry(NamedTuple):
    """A file that may be a picture.

    Args:
        parts: Its path below the folder that holds ``train`` and ``test``; the first is one of these.
        size: Bytes, as the zip or the file system states them.
        read: Gives at most ``MAX_PICTURE_BYTES`` of its content.
    """

    parts: tuple[str, ...]
    size: int
    read: Reader

    @property
    def where(self) -> str:
        """The path as messages show it."""
        return "/".join(self.parts)

    @property
    def is_test(self) -> bool:
        """Whether it lies in the test folder."""
        return self.parts[0].lower() == "test"


def is_junk(name: str) -> bool:
    """Tells whether operating systems put a file or folder of this name beside people's pictures."""
    return name.startswith(".") or name.lower() in _JUNK


def read_pictures(
    source: Path, entries: Sequence[Entry], bad: BadRows, progress: Progress | None, tests_only: bool = False
) -> tuple[list[Row], list[str]]:
    """Reads all pictures, or those below ``test`` alone.

    Returns:
        The rows in the order of their paths, and notes for the user.

    Raises:
        DataError: There are far too many, or one is bad and bad ones are not to be skipped.
    """
    check_count(source, len(entries))
    ordered = list(_in_classes(sorted(entries, key=lambda entry: entry.parts), bad))
    ordered = [entry for entry in ordered if entry.is_test or not tests_only]
    tests = [entry.where for entry in ordered if entry.is_test]
    told = dict(zip(tests, told_partitions([PurePosixPath(where).stem for where in tests]), strict=True))
    rows = []
    for done, entry in enumerate(ordered, start=1):
        path = PurePosixPath(entry.parts[-1])
        partition = told[entry.where] if entry.is_test else TRAINING
        try:
            label = LABELS.index(entry.parts[1].lower())
            rows.append(Row(partition, label, path.stem, _content(entry, path), entry.where))
        except ValueError as error:
            bad.add(entry.where, str(error))
        if progress is not None:
            progress(done, len(ordered))
    return rows, _notes(tests)


def told_partitions(stems: Sequence[str]) -> list[str]:
    """Gives the partition of each picture of a test folder, by name; ``Test`` for all when one does not say it."""
    told = [_told_by(stem) for stem in stems]
    return [partition or TEST for partition in told] if all(told) else [TEST] * len(stems)


def decode(content: bytes) -> bytes:
    """Decodes one picture.

    Args:
        content: A PNG, JPEG or BMP file.

    Returns:
        2,304 bytes: gray, row by row.

    Raises:
        ValueError: It is unreadable or not 48x48 8-bit gray; the text says what came.
    """
    if not content:
        raise ValueError("the file is empty, expected a picture")
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "BMP", "DIB")) as image:
            size, mode = image.size, image.mode
            pixels = image.tobytes() if (size, mode) == ((IMAGE_SIZE, IMAGE_SIZE), "L") else b""
    except UnidentifiedImageError as error:
        raise ValueError("it is not a readable picture, expected PNG, JPEG or BMP") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged input
        raise ValueError(f"the picture is damaged ({error})") from error
    if size != (IMAGE_SIZE, IMAGE_SIZE):
        raise ValueError(f"the picture has {size[0]}x{size[1]} pixels, expected {IMAGE_SIZE}x{IMAGE_SIZE}")
    if not pixels:
        raise ValueError(f"the picture's mode is {mode}, expected L (8-bit gray)")
    return pixels


def _content(entry: Entry, path: PurePosixPath) -> bytes:
    if problem := name_problem(path.stem):
        raise ValueError(problem)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"it is no picture, expected {', '.join(SUFFIXES)}")
    if entry.size > MAX_PICTURE_BYTES:
        raise ValueError(f"the file has {entry.size:,} bytes, expected a 48x48 picture of a few thousand")
    try:
        content = entry.read()
    except Exception as error:  # as do zipfile and the decompressors below it
        raise ValueError(f"the file cannot be read ({error})") from error
    return decode(content)


def _in_classes(entries: Iterable[Entry], bad: BadRows) -> Iterator[Entry]:
    """Passes on what lies in ``train/<class>/`` or ``test/<class>/`` and notes what lies elsewhere."""
    unknown: Counter[str] = Counter()
    for entry in entries:
        if len(entry.parts) > 2 and entry.parts[1].lower() not in LABELS:
            unknown["/".join(entry.parts[:2])] += 1
        elif len(entry.parts) != 3:
            bad.add(entry.where, "it lies in the wrong place, expected <train or test>/<class>/<picture>")
        else:
            yield entry
    for folder, count in unknown.items():
        bad.add(
            f"{folder}/", f"unknown class folder with {count:,} files, expected one of the classes {', '.join(LABELS)}"
        )


def _told_by(name: str) -> str | None:
    match = re.match(r"(PublicTest|PrivateTest)(?![A-Za-z])", name)
    return {PUBLIC: PUBLIC, PRIVATE: PRIVATE}[match[1]] if match else None


def _notes(tests: list[str]) -> list[str]:
    nameless = [where for where in tests if _told_by(PurePosixPath(where).name) is None]
    if not nameless:
        return []
    return [
        f"{len(nameless):,} of {len(tests):,} file names in test/ (the first: {nameless[0]}) say neither PublicTest "
        "nor PrivateTest: the test pictures are one set, Test"
    ]
