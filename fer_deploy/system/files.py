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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from fer_deploy.errors import OutputError

KEEP: Final = 16
"""Files kept per folder; the ones unused for longest go first."""
_DIGEST_BYTES: Final = hashlib.sha256().digest_size


def check_writable(
    target: str | Path,
    overwrite: bool = False,
    *,
    hint: str = "",
    is_folder: bool = False,
    new_parents: bool = False,
    replaceable: Callable[[str], bool] = lambda name: False,
) -> None:
    """Refuses a place where nothing can or may be written, so that this is reported before the work and not after it.

    Args:
        target: The file or folder to be written.
        overwrite: Whether one that exists may be replaced.
        hint: What else can be done where it exists, for the error.
        is_folder: Whether it is to be a folder.
        new_parents: Whether folders above it will be made.
        replaceable: Whether an entry of that name in an existing folder may be lost when the folder is replaced.

    Raises:
        OutputError: It exists and may not be replaced, it cannot be written there, or other files would be lost.
    """
    path = Path(target)
    is_dir = os.path.isdir(path)  # noqa: PTH112  (a Path's is_dir raises where the name is too long)
    exists = os.path.lexists(path)
    if is_dir and not is_folder:
        raise OutputError(f"{target} cannot be written: it is a folder. Name a file, as {path / 'name'}")
    if is_folder and exists and not is_dir:
        raise OutputError(f"{target} cannot be written: it exists and is not a folder; choose another name")
    if not new_parents and not os.path.isdir(path.absolute().parent):  # noqa: PTH112
        raise OutputError(f"{target} cannot be written: there is no folder {path.parent}")
    present = sorted(os.listdir(path)) if is_dir else []  # noqa: PTH208
    if not overwrite and (present if is_folder else exists):
        raise OutputError(exists_already(target, hint))
    others = [name for name in present if not replaceable(name)]
    if others:
        raise OutputError(
            f"{target} holds other files than those that would be replaced ({others[0]}), so it is not replaced; "
            "choose another name, or empty it yourself"
        )


def exists_already(target: str | Path, hint: str = "") -> str:
    """Returns the message that a file exists, and what can be done."""
    return f"{target} exists already; choose another name{hint} or add --overwrite"


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
