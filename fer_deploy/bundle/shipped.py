"""The bundles that ship in the package, by name. Imports nothing: ``--help`` lists them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

ASSETS: Final = Path(__file__).parents[1] / "assets"
DEFAULT: Final = "default"
MANIFEST: Final = "bundle.json"


def shipped_names(assets: Path = ASSETS) -> tuple[str, ...]:
    """Names of the bundles that lie in a folder, ``default`` first, the others in alphabetical order."""
    try:
        with os.scandir(assets) as entries:
            names = sorted(entry.name for entry in entries if (assets / entry.name / MANIFEST).is_file())
    except OSError:  # a checkout that has no bundle yet
        return ()
    return tuple(sorted(names, key=lambda name: name != DEFAULT))
