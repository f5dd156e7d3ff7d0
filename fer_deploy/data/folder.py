"""Reads FER-2013 as pictures: ``train/<class>/x.png`` and ``test/<class>/x.png``, in a zip or in a folder.

Finds where in a zip or folder FER-2013's pictures or its CSV lie.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from PIL import Image, UnidentifiedImageError

from fer_deploy.data.csv import MAX_TABLE_BYTES
from fer_deploy.data.fer2013 import (
    PRIVATE,
    PUBLIC,
    TEST,
    TRAINING,
    BadRows,
    LabelledRow,
    Progress,
    check_count,
    name_problem,
)
from fer_deploy.errors import DataError
from fer_deploy.labels import IMAGE_SIZE, LABELS

MAX_IMAGE_BYTES: Final = 1 << 20
SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".bmp")
FOLDERS: Final = ("train", "test")
_JUNK: Final = ("__macosx", "thumbs.db", "desktop.ini")
Reader = Callable[[], bytes]
CSV_NAMES: Final = ("fer2013.csv", "icml_face_data.csv")
_VALIDATION: Final = ("validation", "valid", "val")
EXPECTED: Final = (
    "expected train/<class>/ and test/<class>/ with pictures, at the top or one folder down, "
    "or fer2013.csv or icml_face_data.csv"
)


class FolderEntry(NamedTuple):
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


def read_images(
    source: Path, entries: Sequence[FolderEntry], bad: BadRows, progress: Progress | None, tests_only: bool = False
) -> tuple[list[LabelledRow], list[str]]:
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
    reported = dict(zip(tests, partitions_by_name([PurePosixPath(where).stem for where in tests]), strict=True))
    rows = []
    for done, entry in enumerate(ordered, start=1):
        path = PurePosixPath(entry.parts[-1])
        partition = reported[entry.where] if entry.is_test else TRAINING
        try:
            label = LABELS.index(entry.parts[1].lower())
            rows.append(LabelledRow(partition, label, path.stem, _content(entry, path), entry.where))
        except ValueError as error:
            bad.add(entry.where, str(error))
        if progress is not None:
            progress(done, len(ordered))
    return rows, _notes(tests)


def partitions_by_name(stems: Sequence[str]) -> list[str]:
    """Gives the partition of each picture of a test folder, by name; ``Test`` for all when one does not say it."""
    reported = [_partition_by_name(stem) for stem in stems]
    return [partition or TEST for partition in reported] if all(reported) else [TEST] * len(stems)


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


def _content(entry: FolderEntry, path: PurePosixPath) -> bytes:
    if problem := name_problem(path.stem):
        raise ValueError(problem)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"it is no picture, expected {', '.join(SUFFIXES)}")
    if entry.size > MAX_IMAGE_BYTES:
        raise ValueError(f"the file has {entry.size:,} bytes, expected a 48x48 picture of a few thousand")
    try:
        content = entry.read()
    except Exception as error:  # as do zipfile and the decompressors below it
        raise ValueError(f"the file cannot be read ({error})") from error
    return decode(content)


def _in_classes(entries: Iterable[FolderEntry], bad: BadRows) -> Iterator[FolderEntry]:
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


def _partition_by_name(name: str) -> str | None:
    match = re.match(r"(PublicTest|PrivateTest)(?![A-Za-z])", name)
    return {PUBLIC: PUBLIC, PRIVATE: PRIVATE}[match[1]] if match else None


def _notes(tests: list[str]) -> list[str]:
    nameless = [where for where in tests if _partition_by_name(PurePosixPath(where).name) is None]
    if not nameless:
        return []
    return [
        f"{len(nameless):,} of {len(tests):,} file names in test/ (the first: {nameless[0]}) say neither PublicTest "
        "nor PrivateTest: the test pictures are one set, Test"
    ]


def zip_entries(source: Path, archive: zipfile.ZipFile) -> tuple[list[FolderEntry], list[str]]:
    """Lists the files below the ``train`` and ``test`` of a zip.

    Returns:
        The entries, none if there is no such folder; and notes.

    Raises:
        DataError: They are encrypted, far too many, or there are two data sets.
    """
    infos = [(_parts(info.filename), info) for info in _zip_files(archive)]
    infos = [(parts, info) for parts, info in infos if parts and not any(is_junk(part) for part in parts)]
    roots = {root for parts, _ in infos if (root := _root(parts)) is not None}
    if not roots:
        return [], []
    root = _single(source, roots)
    inside = [(parts[len(root) :], info) for parts, info in infos if parts[: len(root)] == root]
    chosen = [(parts, info) for parts, info in inside if parts[0].lower() in FOLDERS]
    check_count(source, len(chosen))
    for _, info in chosen:
        _check_open(source, info)
    notes = _validation_notes({parts[0] for parts, _ in inside})
    return [FolderEntry(parts, info.file_size, _zip_reader(archive, info)) for parts, info in chosen], notes


def zip_table(source: Path, archive: zipfile.ZipFile) -> str:
    """Gives the name of the CSV in a zip.

    Raises:
        DataError: There is none, it is encrypted or far too large.
    """
    files = _zip_files(archive)
    tables = [info for info in files if info.filename.lower().endswith(".csv")]
    tables = [info for info in tables if not any(is_junk(part) for part in _parts(info.filename))]
    named = [info for info in tables if _parts(info.filename)[-1].lower() in CSV_NAMES]
    if not named and len(tables) != 1:
        shown = ", ".join(info.filename[:40] for info in files[:3]) or "nothing"
        raise DataError(f"{source} is not FER-2013: it holds {shown}{' ...' if len(files) > 3 else ''}; {EXPECTED}")
    chosen = (named or tables)[0]
    _check_open(source, chosen)
    if chosen.file_size > MAX_TABLE_BYTES:
        raise DataError(
            f"{source} is not FER-2013: {chosen.filename} unpacks to {chosen.file_size:,} bytes, expected some 300 MB"
        )
    return chosen.filename


def folder_root(source: Path) -> Path | None:
    """Gives the folder that holds ``train`` or ``test``: the source itself or one folder down; None without any.

    Raises:
        DataError: There are two data sets.
    """
    if _has_images(source):
        return source
    roots = {(child.name,) for child in _children(source) if child.is_dir() and _has_images(child)}
    return source.joinpath(*_single(source, roots)) if roots else None


def folder_entries(root: Path) -> tuple[list[FolderEntry], list[str]]:
    """Lists the files below the ``train`` and ``test`` of a folder, and notes."""
    entries = []
    for top in _children(root):
        if top.name.lower() in FOLDERS and top.is_dir():
            entries += [
                FolderEntry(path.relative_to(root).parts, _size(path), _file_reader(path))
                for path in _files(top, depth=2)
            ]
    return entries, _validation_notes({child.name for child in _children(root) if child.is_dir()})


def folder_table(source: Path) -> Path:
    """Gives the CSV in a folder.

    Raises:
        DataError: There is none.
    """
    for name in CSV_NAMES:
        for file in (source / name, source / f"{name}.gz"):
            if file.is_file():
                return file
    if any(child.name.lower() in ("angry", "happy") for child in _children(source)):
        raise DataError(f"{source} looks like the inside of train/ or test/: give the folder above it")
    shown = ", ".join(child.name for child in _children(source)[:3]) or "nothing"
    raise DataError(f"{source} is not FER-2013: it holds {shown}; {EXPECTED}")


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _zip_files(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Lists the entries that are files; a damaged directory can have some without a name."""
    return [info for info in archive.infolist() if info.filename and not info.is_dir()]


def _root(parts: tuple[str, ...]) -> tuple[str, ...] | None:
    """Where a zip entry such as ``archive/train/happy/x.png`` says that the data set lies: ``("archive",)``."""
    for depth in (0, 1):
        if len(parts) >= depth + 3 and parts[depth].lower() in FOLDERS and parts[-1].lower().endswith(SUFFIXES):
            return parts[:depth]
    return None


def _single(source: Path, roots: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Takes the uppermost root; two beside each other are a question that only the user can answer."""
    ordered = sorted(roots, key=lambda root: (len(root), root))
    if len(ordered) > 1 and len(ordered[0]) == len(ordered[1]):
        raise DataError(
            f"{source} holds more than one data set, in {ordered[0][0]}/ and {ordered[1][0]}/: "
            "unpack it and give one of these folders"
        )
    return ordered[0]


def _check_open(source: Path, info: zipfile.ZipInfo) -> None:
    if info.flag_bits & 0x1:
        raise DataError(
            f"{source} is encrypted ({info.filename}): unpack it with its password and give the folder instead"
        )


def _zip_reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Reader:
    def read() -> bytes:
        with archive.open(info) as file:
            return file.read(MAX_IMAGE_BYTES)

    return read


def _file_reader(path: Path) -> Reader:
    def read() -> bytes:
        with path.open("rb") as file:
            return file.read(MAX_IMAGE_BYTES)

    return read


def _has_images(folder: Path) -> bool:
    return any(child.name.lower() in FOLDERS and child.is_dir() for child in _children(folder))


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if not is_junk(child.name))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error


def _files(folder: Path, depth: int) -> Iterator[Path]:
    """Yields the files down to a depth; bounded, so that links that lead in circles do no harm."""
    for child in _children(folder):
        if depth and child.is_dir():
            yield from _files(child, depth - 1)
        else:
            yield child


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a broken link: reading it tells the reason
        return 0


def _validation_notes(names: Iterable[str]) -> list[str]:
    return [f"{name}/ is not read: only train/ and test/ are" for name in sorted(names) if name.lower() in _VALIDATION]
