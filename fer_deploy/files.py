"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fer_deploy.errors import OutputError


def check_new(target: str | Path, overwrite: bool = False, more: str = "") -> None:
    """Refuses a file that exists already, so that this is told before the work and not behind it.

    Args:
        target: What is to be written.
        overwrite: Whether it may be replaced.
        more: What else can be done, for the error.

    Raises:
        OutputError: It exists, and may not be replaced.
    """
    if not overwrite and os.path.lexists(target):
        raise OutputError(exists_already(target, more))


def exists_already(target: str | Path, more: str = "") -> str:
    """Says that a file is there already, and what can be done."""
    return f"{target} exists already; choose another name{more} or add --overwrite"


def check_file(target: Path) -> None:
    """Refuses a place where no file can be written, so that this is told before the work and not behind it.

    Raises:
        OutputError: A folder has this name, or there is no folder to write it to.
    """
    if target.is_dir():
        raise OutputError(f"{target} cannot be written: it is a folder. Name a file, as {target / 'name'}")
    if not target.parent.is_dir():
        raise OutputError(f"{target} cannot be written: there is no folder {target.parent}")


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Gives a path to write to, which takes the target's place when all went well and is removed when not.

    A folder is replaced by a folder only.

    Raises:
        OutputError: Writing failed.
    """
    if not target.name:
        raise OutputError(f"{target} cannot be written: it is a folder")
    token = secrets.token_hex(4)
    partial = target.with_name(f".{target.name}.{token}.partial")
    old = target.with_name(f".{target.name}.{token}.old.partial")
    try:
        yield partial
        if target.is_dir() and not partial.is_file():
            target.replace(old)  # a folder cannot be replaced in one step
        try:
            partial.replace(target)
        except OSError:
            if old.exists():
                old.replace(target)
            raise
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        _remove(partial)
        if target.exists():
            _remove(old)


def _remove(path: Path) -> None:
    if os.path.isdir(path):  # noqa: PTH112  (a Path's is_dir raises where the name is too long for the file system)
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # never there, or its place was no folder: the error that counts is on its way
            path.unlink()
