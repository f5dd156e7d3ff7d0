"""Where a data set is written to: nothing of the user's is lost, and nothing half-written is left."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fer_deploy.data.pictures import FOLDERS, is_junk
from fer_deploy.errors import OutputError


def check_target(target: Path, *, folder: bool, overwrite: bool) -> None:
    """Checks that a target can and may be written: at once, not after a minute of reading.

    Args:
        target: A file or folder to be made.
        folder: Whether it is to be a folder.
        overwrite: Whether it may replace what is there; a folder only if it holds nothing but ``train`` and ``test``.

    Raises:
        OutputError: It may not.
    """
    if not target.absolute().parent.is_dir():
        raise OutputError(f"{target} cannot be written: there is no folder {target.parent}; make it first")
    if target.is_dir() != folder and target.exists():
        is_now, wanted = ("folder", "file") if target.is_dir() else ("file", "folder")
        raise OutputError(f"{target} is a {is_now}, and a {wanted} is to be written: choose another name")
    if not target.exists() or (folder and not any(target.iterdir())):
        return
    if not overwrite:
        raise OutputError(f"{target} exists already: choose another name, or replace it with --overwrite")
    others = [child.name for child in sorted(target.iterdir())] if folder else []
    others = [name for name in others if name not in FOLDERS and not is_junk(name)]
    if others:
        raise OutputError(
            f"{target} holds other things than train and test ({others[0]}), so it will not be replaced: "
            "choose another name, or empty it yourself"
        )


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Gives a path to write to, which takes the target's place when all went well and is removed when not.

    Raises:
        OutputError: Writing failed.
    """
    token = secrets.token_hex(4)
    partial = target.with_name(f".{target.name}.{token}.partial")
    old = target.with_name(f".{target.name}.{token}.old.partial")
    try:
        yield partial
        if target.is_dir():
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
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
