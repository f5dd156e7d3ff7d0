"""Opens a picture's file without ever blocking, says why one cannot be opened, and knows what is no picture."""

from __future__ import annotations

import errno
import os
import stat
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from fer_deploy.errors import ImageError

_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".xml", ".toml", ".yaml", ".yml", ".log")
_TEXTS_AND_CODE = (".md", ".rst", ".html", ".py", ".ipynb", ".keras", ".onnx")
SIDECARS: Final = frozenset(_TABLES + _TEXTS_AND_CODE)
"""Suffixes of files that lie beside pictures and are none. Not ``.txt``: a picture that failed to save can be one."""
NOTES: Final = frozenset(
    name + suffix for name in ("license", "licence", "readme", "notice") for suffix in ("", ".txt")
)
"""Names of files that are no pictures either."""
JUNK: Final = frozenset(("thumbs.db", "desktop.ini", "__macosx"))
"""What operating systems put beside pictures, besides names that start with a dot."""
VIDEOS: Final = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".mts", ".m2ts", ".ogv")
)
"""Suffixes of videos."""
_SMALL: Final = 1 << 20
_KINDS: Final = (
    (stat.S_ISDIR, "a folder, not a picture"),
    (stat.S_ISFIFO, "a named pipe, not a picture"),
    (stat.S_ISSOCK, "a socket, not a picture"),
    (stat.S_ISCHR, "a device, not a picture"),
    (stat.S_ISBLK, "a device, not a picture"),
)


def open_regular(path: str) -> BinaryIO:
    """Opens a regular, non-empty file for reading; a pipe or device is refused before it could block.

    A small file is read at once: what codecs do with a file, many short reads and seeks, takes as long on one that is
    on disk as decoding a small picture does.

    Raises:
        ImageError: With the reason in a few words, the path left out.
    """
    size = check_regular(path)
    try:
        return BytesIO(_content(path, size)) if size <= _SMALL else Path(path).open("rb")
    except OSError as error:
        raise ImageError(why(error, path)) from error


def _content(path: str, size: int) -> bytes:
    """Reads up to ``size`` bytes with the least calls; a Path's ``read_bytes`` takes four times as long."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        content = os.read(descriptor, size)
        while len(content) < size and (more := os.read(descriptor, size - len(content))):  # a file system may give less
            content += more
        return content
    finally:
        os.close(descriptor)


def check_regular(path: str) -> int:
    """Refuses what is no regular file with something in it.

    Returns:
        The file's size in bytes.

    Raises:
        ImageError: With the reason in a few words, the path left out.
    """
    try:
        status = os.stat(path)  # noqa: PTH116  (a Path would cost as much as the call itself, a million times)
    except OSError as error:
        raise ImageError(why(error, path)) from error
    except ValueError as error:  # a null character in the path
        raise ImageError("not a path that can exist") from error
    for is_kind, reason in () if stat.S_ISREG(status.st_mode) else _KINDS:
        if is_kind(status.st_mode):
            raise ImageError(reason)
    if not status.st_size:
        raise ImageError("empty file")
    return status.st_size


def why(error: OSError, path: str) -> str:
    """Puts an operating system's error into a few words."""
    if error.errno == errno.ENOENT:
        return "broken link" if os.path.lexists(path) else "no such file"
    if error.errno == errno.ELOOP:
        return "broken link (it leads back to itself)"
    return (error.strerror or str(error)).lower()


def why_skipped(name: str, is_folder: bool = False) -> str | None:
    """Tells why a folder's or archive's entry is not tried as a picture, or None when it is."""
    if name.startswith(".") or name.lower() in JUNK:
        return "hidden"
    if not is_folder and (name.lower() in NOTES or os.path.splitext(name)[1].lower() in SIDECARS):  # noqa: PTH122
        return "sidecars"
    return None


def is_video(name: str) -> bool:
    """Tells by its name whether a file is taken as a video."""
    return os.path.splitext(name)[1].lower() in VIDEOS  # noqa: PTH122
