"""Where pictures come from: files, folders, patterns, zip archives, encoded bytes and arrays, one after the other.

A path that exists is taken as it is; one that does not and holds ``*``, ``?`` or ``[`` is a pattern (``**`` goes into
folders), and what lies in a folder that matches comes once, with that folder. A folder is walked with all below it, in
the sorted order of each folder's entries. Every file in it is tried, whatever its name, so that nothing is left out
unseen, but for two kinds, which are counted in ``Sources.skipped`` and are left out of a pattern's matches as well:

- hidden files and folders (``.DS_Store``, ``Thumbs.db``, ``__MACOSX``, ...), but a pattern may ask for a dot;
- sidecars, which lie beside pictures and are none, by name (``files.SIDECARS`` and ``NOTES``: tables, notes, code).

Links are followed, but not to a folder that the link itself lies in. What is missing or cannot be opened still gives a
source; reading it raises an ImageError, which costs one row. Zip archives are opened wherever they lie, but not inside
other archives. Held in memory are the names of the folders on the way to the current
picture, a pattern's matches, and an archive's table of contents.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import ImageError
from fer_deploy.images.archive import ARCHIVE_SUFFIX, members
from fer_deploy.images.decode import decode, from_array
from fer_deploy.images.file_kinds import is_video, why, why_skipped

LINK_LOOP: Final = "links back to their own folder"

Item = str | os.PathLike[str] | bytes | NDArray[np.uint8]
"""A path, an encoded picture, or a decoded one (see ``from_array``)."""


@dataclass(frozen=True, slots=True)
class Source:
    """One picture, not read yet.

    Args:
        name: How tables call it: its path, ``archive.zip/member.png``, or ``item 3`` for bytes and arrays.
        read: Gives uint8 (48, 48, 1), or what else ``Readers`` give; raises ImageError. Safe in any thread.
        clip: Of a video: makes its rows with a backend; ``read`` is not called then.
    """

    name: str
    read: Callable[[], Any]
    clip: Callable[[Any], Any] | None = None


class Readers(NamedTuple):
    """What reads pictures: ``file`` a path or an encoded one as bytes, ``array`` a decoded one.

    ``clip`` makes rows of a video's path with a backend; without it a video is tried as a picture.
    """

    file: Callable[[str | bytes], Any] = decode
    array: Callable[[Any], Any] = from_array
    clip: Callable[[str, Any], Any] | None = None


_FACES: Final = Readers()


class Sources:
    """Goes lazily through everything that items lead to; to be iterated once.

    Args:
        items: See ``Item``; an iterable of any length. A ``Source`` is taken as it is.
        readers: What reads the pictures.

    Attributes:
        found: How many sources came up so far that are really there.
        skipped: How many files were left out so far, by reason.
    """

    def __init__(self, items: Iterable[Item | Source], readers: Readers = _FACES) -> None:
        self._items = items
        self._readers = readers
        self.found = 0
        self.skipped: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Source]:
        for index, item in enumerate(self._items):
            if isinstance(item, Source):
                self.found += 1
                yield item
            elif isinstance(item, (str, os.PathLike)):
                yield from self._from_path(os.fspath(item))
            else:
                self.found += 1
                readers = self._readers
                read = partial(readers.file, item) if isinstance(item, bytes) else partial(readers.array, item)
                yield Source(f"item {index}", read)

    def _from_path(self, path: str) -> Iterator[Source]:
        if os.path.lexists(path):
            yield from self._existing(path)
        elif glob.has_magic(path) and (matches := set(glob.glob(path, recursive=True))):  # noqa: PTH207
            yield from self._matches(sorted(matches))
        else:
            reason = "no file matches this pattern" if glob.has_magic(path) else "no such file"
            yield Source(path, partial(_fail, reason))

    def _matches(self, paths: Iterable[str]) -> Iterator[Source]:
        """Goes through a pattern's matches, in sorted order, so that a folder comes before what lies in it."""
        folders: set[str] = set()
        for path in paths:
            if folders and any(path[:end] in folders for end, sign in enumerate(path) if sign == os.sep):
                continue
            is_folder, whole = os.path.isdir(path), path.rstrip(os.sep)  # noqa: PTH112
            if is_folder:
                folders.add(whole)
            name = os.path.basename(whole).lstrip(".")  # noqa: PTH119  (only a pattern with that dot finds one)
            if reason := why_skipped(name, is_folder):
                self.skipped[reason] += 1
            else:
                yield from self._existing(path)

    def _existing(self, path: str) -> Iterator[Source]:
        if os.path.isdir(path):  # noqa: PTH112
            yield from self._folder(path)
        else:
            yield from self._file(path)

    def _file(self, path: str) -> Iterator[Source]:
        if path.lower().endswith(ARCHIVE_SUFFIX):
            yield from self._archive(path)
        else:
            self.found += 1
            yield self._source(path, partial(self._readers.file, path))

    def _source(self, name: str, read: Callable[[], Any]) -> Source:
        clip = self._readers.clip
        return Source(name, read, partial(clip, name) if clip and is_video(name) else None)

    def _failed(self, path: str, reason: str) -> Source:
        self.found += 1
        return Source(path, partial(_fail, reason))

    def _archive(self, path: str) -> Iterator[Source]:
        try:
            for name, read in members(path, self.skipped, self._readers.file):
                self.found += 1
                yield self._source(f"{path}/{name}", read)
        except ImageError as error:
            yield self._failed(path, str(error))

    def _folder(self, root: str) -> Iterator[Source]:
        """Walks with a stack of its own, since folders can be nested deeper than Python's calls."""
        stack: list[tuple[tuple[int, int], Iterator[str]]] = [((0, 0), iter((os.path.join(root, ""),)))]  # noqa: PTH118
        while stack:
            path = next(stack[-1][1], None)
            if path is None:
                stack.pop()
            elif not path.endswith(os.sep):
                yield from self._file(path)
            else:
                try:
                    status = os.stat(path)  # noqa: PTH116
                    identity = (status.st_dev, status.st_ino)
                    if any(identity == opened for opened, _ in stack):
                        self.skipped[LINK_LOOP] += 1
                    else:
                        stack.append((identity, self._entries(path)))
                except OSError as error:
                    yield self._failed(path.rstrip(os.sep), why(error, path))

    def _entries(self, folder: str) -> Iterator[str]:
        """Lists a folder's entries in sorted order, as paths; those of folders end in a slash."""
        names, folders = [], set()
        with os.scandir(folder) as entries:
            for entry in entries:
                is_folder = _is_folder(entry)
                if reason := why_skipped(entry.name, is_folder):
                    self.skipped[reason] += 1
                    continue
                names.append(entry.name)
                if is_folder:
                    folders.add(entry.name)
        names.sort()
        return (os.path.join(folder, name) + os.sep * (name in folders) for name in names)  # noqa: PTH118


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself: reading it as a file tells the reason
        return False


def _fail(reason: str) -> NoReturn:
    raise ImageError(reason)
