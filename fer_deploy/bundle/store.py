"""Keeps records of measurements and of tuning, and finds those that hold for a bundle's files.

They go into the bundle if it is the user's own, else (the shipped one, or one that cannot be written) into the
user's state folder.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fer_deploy.bundle.records import Record, Tuned, _Kind, merge, parse_record, parse_tuned
from fer_deploy.errors import OutputError
from fer_deploy.system.files import written_whole

if TYPE_CHECKING:
    from fer_deploy.bundle.manifest import Bundle

MAX_BYTES: Final = 1 << 20
KIND: Final = "tuning"


def recorded(bundle: Bundle) -> tuple[Record, ...]:
    """Returns all records that hold for a bundle's files as they are, the user's own before those in the bundle.

    A state file that cannot be read or is damaged counts as none: it can be made again.
    """
    known = {artefact.sha256 for artefact in bundle.artefacts}
    each = (bundle.verification, from_state(state_file(bundle), parse_record))
    # chosen before they are joined: the state file outlives files, and what is stale must not hide what holds
    return merge(*([record for record in records if record.artefact_sha256 in known] for records in each))


def keep(bundle: Bundle, records: Iterable[Record]) -> Path:
    """Keeps records, each in the place of an older one of the same key; returns the file that they went to.

    Raises:
        OutputError: Neither the bundle nor the state folder can be written.
    """
    new = tuple(records)
    if is_the_users(bundle):
        dataclasses.replace(bundle, verification=merge(bundle.verification, new)).save()
        return bundle.path
    path = state_file(bundle)
    to_state(path, merge(from_state(path, parse_record), new))
    return path


def state_file(bundle: Bundle, kind: str = "verification") -> Path:
    """Where records of a bundle go that is not the user's: below ``$XDG_STATE_HOME`` or ``~/.local/state``.

    Args:
        bundle: Whose records.
        kind: Which: ``verification`` or ``tuning``.
    """
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111  (never raises)
    return Path(base) / "fer-deploy" / kind / f"{bundle.source_sha256}.json"


def is_the_users(bundle: Bundle) -> bool:
    """Tells whether a bundle may be written to: not the shipped one, nor one that the user cannot write."""
    from fer_deploy.bundle.manifest import ASSETS

    inside = bundle.path.resolve().is_relative_to(ASSETS.resolve())
    return not inside and os.access(bundle.path, os.W_OK)


def from_state(path: Path, parse: Callable[[Any], _Kind]) -> tuple[_Kind, ...]:
    """Reads a state file; one that is missing or damaged holds nothing."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return ()
        return tuple(parse(entry) for entry in json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return ()


def to_state(path: Path, records: Iterable[Any]) -> None:
    """Writes a state file, whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent} cannot be made: {error.strerror}") from error
    with written_whole(path) as partial:
        text = json.dumps([asdict(record) for record in records], indent=1, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")


def tuned_for(bundle: Bundle) -> tuple[Tuned, ...]:
    """Returns all records that hold for a bundle's files as they are; a damaged state file counts as none."""
    known = {artefact.sha256 for artefact in bundle.artefacts}
    each = (bundle.tuning, from_state(state_file(bundle, KIND), parse_tuned))
    return _merge(*([tuned for tuned in records if tuned.artefact_sha256 in known] for records in each))


def keep_tuned(bundle: Bundle, new: Iterable[Tuned]) -> Path:
    """Keeps records, each in the place of an older one of the same key; returns where they went.

    Raises:
        OutputError: Neither the bundle nor the state folder can be written.
    """
    if is_the_users(bundle):
        dataclasses.replace(bundle, tuning=_merge(bundle.tuning, new)).save()
        return bundle.path
    path = state_file(bundle, KIND)
    to_state(path, _merge(from_state(path, parse_tuned), new))
    return path


def _merge(old: Iterable[Tuned], new: Iterable[Tuned]) -> tuple[Tuned, ...]:
    return tuple({tuned.key: tuned for tuned in (*old, *new)}.values())
