"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def fer2013_path() -> Path:
    """The real FER-2013; tests that take it carry the marker fer2013."""
    candidates = [os.environ.get("FER2013"), Path(__file__).parents[2] / "shared/fer2013/fer2013.zip"]
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            return Path(candidate)
    pytest.skip("no FER-2013: set FER2013 to it, or put it at ../shared/fer2013/fer2013.zip")
