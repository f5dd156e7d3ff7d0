"""Files and folders that are written whole or not at all.

Compiled models in the user's cache folder: each carries its hash, and is written whole or not at all.

Only what this user made and what is still as it was written is taken, so a compiled model is never loaded on trust;
processes that start together cannot disturb each other. A cache that cannot be used changes nothing but the time.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from fer_deploy.errors import OutputError

KEEP: Final = 16
"""Files kept per folder; the ones unused for longest go first."""
_DIGEST_BYTES: Final = hashlib.sha256().digest_size


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


def cache_folder(runtime: str) -> Path:
    """The user's cache for one runtime: ``$XDG_CACHE_HOME/fer-deploy/<runtime>`` or ``~/.cache/...``."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111  (never raises)
    return Path(base) / "fer-deploy" / runtime


def load_blob(path: Path) -> bytes | None:
    """Returns what ``store_blob`` wrote, or None where it is missing, damaged or another user's."""
    try:
        if path.stat().st_uid != os.geteuid():  # only what this user made is run
            return None
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    digest, blob = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return blob if hashlib.sha256(blob).digest() == digest else None


def store_blob(path: Path, blob: bytes) -> None:
    """Writes a file with its hash in front, and removes what is old of the same kind (by suffix).

    Raises:
        OSError: The folder cannot be made or written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
        try:
            file.write(hashlib.sha256(blob).digest() + blob)
            file.close()
            Path(file.name).replace(path)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise
    blobs = sorted(path.parent.glob(f"*{path.suffix}"), key=lambda blob: blob.stat().st_mtime)
    for old in blobs[:-KEEP]:
        old.unlink(missing_ok=True)
