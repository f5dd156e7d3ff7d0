"""Compiled models in the user's cache folder: each carries its hash, and is written whole or not at all.

Only what this user made and what is still as it was written is taken, so a compiled model is never loaded on trust;
processes that start together cannot disturb each other. A cache that cannot be used changes nothing but the time.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

KEEP: Final = 16
"""Files kept per folder; the ones unused for longest go first."""
_DIGEST_BYTES: Final = hashlib.sha256().digest_size


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
