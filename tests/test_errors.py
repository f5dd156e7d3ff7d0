"""Texts of errors."""

from __future__ import annotations

import pytest

from fer_deploy.errors import one_line


@pytest.mark.parametrize(
    ("text", "limit", "line"),
    [("a\n  b\tc", 300, "a b c"), (ValueError("x" * 20), 10, "x" * 7 + "..."), ("x" * 10, 10, "x" * 10), ("", 5, "")],
)
def test_what_others_say_becomes_one_bounded_line(text: object, limit: int, line: str) -> None:
    assert one_line(text, limit) == line
