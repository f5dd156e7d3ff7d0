"""Sorts pictures by what was found in them: copies into a folder, or their paths on standard output.

Where copies of pictures lie below a folder: as the originals below theirs, never outside it, never over another.
"""

from __future__ import annotations

import errno
import filecmp
import glob
import itertools
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fer_deploy.errors import ImageError, OutputError, UsageError
from fer_deploy.images.archive import ARCHIVE_SUFFIX, inside_archive
from fer_deploy.inference.prediction import Prediction
from fer_deploy.inference.sinks.sink import STDOUT, explained, standard_output
from fer_deploy.labels import LABELS
from fer_deploy.reporting.ordered_pool import Writers
from fer_deploy.reporting.thumbnails import content

_LONGEST: Final = 200
"""Bytes of a name; file systems allow 255, and a number and a suffix may be added."""
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class CopySelection:
    """Which faces are wanted.

    Args:
        emotions: Of these; all of them if there are none.
        min_confidence: At least this sure, 0..1.

    Raises:
        UsageError: There is no such emotion, or no such confidence.
    """

    emotions: tuple[str, ...] = ()
    min_confidence: float = 0

    def __post_init__(self) -> None:
        if unknown := [each for each in self.emotions if each not in LABELS]:
            raise UsageError(f"There is no emotion {unknown[0]!r}; there are: {', '.join(LABELS)}")
        if not 0 <= self.min_confidence <= 1:
            raise UsageError(f"A confidence of {self.min_confidence} is none: it lies between 0 and 1")

    def __contains__(self, prediction: Prediction) -> bool:
        return (
            prediction.emotion is not None
            and (not self.emotions or prediction.emotion in self.emotions)
            and (prediction.confidence or 0) >= self.min_confidence
        )


class Copies(Writers):
    """Copies each picture that has a wanted face; with several emotions wanted, into a folder for each of them.

    A picture lies below the folder as it lay below what was given. What lies there already is never replaced: a copy
    that is there is left alone and counts as written, and another file of the same name gets company with a number.

    Args:
        folder: Where they go; made if it is not there.
        choice: What is wanted.
        inputs: What the run was given.
    """

    def __init__(self, folder: str | Path, choice: CopySelection, inputs: Sequence[str]) -> None:
        super().__init__(workers=1)  # one, so that numbered names do not depend on chance
        self._names = CopyNames(folder, inputs)
        self._choice = choice
        self._last: tuple[str, set[str]] = ("", set())

    def write(self, prediction: Prediction) -> None:
        """Takes a row."""
        if prediction not in self._choice:
            return
        below = "" if len(self._choice.emotions) == 1 else str(prediction.emotion)
        if self._last[0] != prediction.path:
            self._last = (prediction.path, set())
        if below not in self._last[1]:
            self._last[1].add(below)
            self.hand_over(partial(self._copy, prediction.path, below))

    def _copy(self, name: str, below: str) -> bool:
        def write(target: Path) -> None:
            if inside_archive(name):
                target.write_bytes(content(name))
            else:
                shutil.copyfile(name, target)
                shutil.copystat(name, target)

        try:
            if not inside_archive(name) and not os.path.isfile(name):  # noqa: PTH113
                return False
            self._names.put(self._names.place(name, below), write)
        except ImageError:
            return False
        return True


class PathList:
    """Prints the path of each picture that has a wanted face, byte for byte, a line each.

    Args:
        choice: What is wanted.

    Raises:
        OutputError: From every method, when standard output cannot be written.
    """

    def __init__(self, choice: CopySelection) -> None:
        self._choice = choice
        self._last: str | None = None

    def write(self, prediction: Prediction) -> None:
        """Takes a row."""
        if prediction in self._choice and prediction.path != self._last:
            self._last = prediction.path
            with explained(STDOUT):
                self._file.write(os.fsencode(prediction.path) + b"\n")

    def __enter__(self) -> Self:
        self._file = standard_output()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with explained(STDOUT):
            self._file.flush()


class CopyNames:
    """Names copies.

    Args:
        folder: Where they go; made when the first one comes.
        inputs: What the run was given: a picture below one of them keeps its path below it. With several folders or
            archives, each becomes a folder of its own name.

    Raises:
        UsageError: The folder lies in a folder that is read, so that the copies would be read, too.
        OutputError: Something else has its name.
    """

    def __init__(self, folder: str | Path, inputs: Sequence[str]) -> None:
        self.folder = Path(folder)
        self._roots = sorted({root for each in inputs if (root := _root(each))}, key=len, reverse=True)
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(f"cannot write to {folder}: it is no folder")
        whole = self.folder.resolve()
        for root in self._roots:
            if (
                Path(root).is_dir()
                and not _is_pattern_or_file(root, inputs)
                and whole.is_relative_to(Path(root).resolve())
            ):
                raise UsageError(f"{folder} lies in {root}, which is read: choose a folder outside it")

    def place(self, name: str, below: str = "") -> Path:
        """Gives the path of a picture's copy; other copies may want the same, which ``put`` solves.

        Args:
            name: The picture's path, or ``archive.zip/member.png``.
            below: A folder in between.
        """
        root = next((root for root in self._roots if name.startswith(root)), "")
        parts = [_short(part) for part in name[len(root) :].split("/") if part not in ("", ".", "..")]
        own = [os.path.basename(root.rstrip("/"))] if root and len(self._roots) > 1 else []  # noqa: PTH119
        parts = [below, *(part for part in own if part not in ("", ".", "..")), *(parts or ["picture"])]
        return self.folder.joinpath(*filter(None, parts))

    def put(self, place: Path, write: Callable[[Path], None]) -> Path:
        """Writes a file to a place; where another one lies already, to ``name (2).png`` and so on.

        Args:
            place: From ``place``.
            write: Writes to the path it gets.

        Returns:
            Where it lies now; a file with the very same content is left as it is and its path returned.

        Raises:
            OutputError: It cannot be written.
        """
        partial = None
        try:
            place = self._with_folder(place)
            partial = place.with_name(f".{secrets.token_hex(8)}.partial")
            write(partial)
            return next(found for number in itertools.count(1) if (found := _take(partial, _numbered(place, number))))
        except OSError as error:
            raise OutputError(f"cannot write to {place}: {(error.strerror or str(error)).lower()}") from error
        finally:
            if partial is not None:
                partial.unlink(missing_ok=True)

    def _with_folder(self, place: Path) -> Path:
        """Makes the folder of a place; one whose name a file has, or that leads elsewhere, is joined to the name."""
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.parent.resolve().is_relative_to(self.folder.resolve()):
                return place
        except (FileExistsError, NotADirectoryError):
            pass
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / _short("_".join(place.relative_to(self.folder).parts))


def _root(given: str) -> str:
    """Gives what a name begins with that comes from an input, with a slash; empty for the current folder's files."""
    if glob.has_magic(given) and not os.path.lexists(given):
        fixed = given[: next(index for index, character in enumerate(given) if character in "*?[")]
        return fixed[: fixed.rfind("/") + 1]
    if os.path.isdir(given) or given.lower().endswith(ARCHIVE_SUFFIX):  # noqa: PTH112
        return os.path.join(given, "")  # noqa: PTH118
    return given[: given.rfind("/") + 1]


def _is_pattern_or_file(root: str, inputs: Sequence[str]) -> bool:
    """Tells whether no input is this folder as a whole, so that what lies in it is not read for that alone."""
    return all(os.path.join(each, "") != root for each in inputs)  # noqa: PTH118


def _short(part: str) -> str:
    if len(os.fsencode(part)) <= _LONGEST:
        return part
    suffix = Path(part).suffix if len(Path(part).suffix) < 10 else ""
    return os.fsencode(part)[: _LONGEST - len(suffix)].decode("utf-8", "ignore") + suffix


def _numbered(place: Path, number: int) -> Path:
    return place if number == 1 else place.with_name(f"{place.stem} ({number}){place.suffix}")


def _take(partial: Path, place: Path) -> Path | None:
    """Gives the file its name, unless another one has it; None then."""
    try:
        os.link(partial, place)
    except FileExistsError:
        return place if place.is_file() and filecmp.cmp(partial, place, shallow=False) else None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(place):
            return place if place.is_file() and filecmp.cmp(partial, place, shallow=False) else None
        partial.rename(place)
    return place
