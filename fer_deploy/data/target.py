"""Where a data set may be written to: nothing of the user's is lost."""

from __future__ import annotations

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
