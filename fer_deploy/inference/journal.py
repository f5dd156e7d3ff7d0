"""What lies beside a table while a run writes it: with which settings, so that ``--resume`` goes on with the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fer_deploy.errors import OutputError

_SUFFIX: Final = ".resume.json"


class Journal:
    """A small JSON file beside a table; it is there as long as the table is not done.

    Args:
        target: The table.
        settings: What decides about the rows, as name and text.
    """

    def __init__(self, target: str, settings: Mapping[str, str]) -> None:
        self.path = path_of(target)
        self._target = target
        self._settings = dict(settings)

    def check(self) -> None:
        """Compares with the settings of the run that began the table.

        Raises:
            OutputError: They differ, or the journal cannot be read.
        """
        try:
            begun = dict(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise OutputError(f"{self.path} cannot be read ({error}); --overwrite begins anew") from error
        for name in {**begun, **self._settings}:
            before, now = begun.get(name, "not given"), self._settings.get(name, "not given")
            if before != now:
                raise OutputError(
                    f"{self._target} was begun with {name} {before}, and now it is {now}; "
                    "give the same to resume it, or begin anew with --overwrite"
                )

    def begin(self) -> None:
        """Writes it."""
        from fer_deploy.files import written_whole

        with written_whole(self.path) as partial:
            partial.write_text(json.dumps(self._settings, indent=1) + "\n", encoding="utf-8")

    def end(self) -> None:
        """Removes it: the table is done."""
        self.path.unlink(missing_ok=True)


def path_of(target: str) -> Path:
    """Names a table's journal."""
    return Path(target + _SUFFIX)
