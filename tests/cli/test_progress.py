"""What is shown on stderr, and when."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fer_deploy.cli import progress


@pytest.mark.parametrize(("after_s", "expected"), [(60, []), (0.05, [(2, 3), (3, 3)])])
def test_a_late_bar_is_not_drawn_for_what_is_soon_done(
    monkeypatch: pytest.MonkeyPatch, after_s: float, expected: list[tuple[int, int]]
) -> None:
    shown: list[tuple[int, int]] = []

    @contextmanager
    def bar(text: str) -> Iterator[progress.Count]:
        yield lambda done, total: shown.append((done, total))

    monkeypatch.setattr(progress, "progress_bar", bar)
    with progress.late_bar("file", after_s) as show:
        show(1, 3)
        time.sleep(0.06)
        show(2, 3)
        show(3, 3)
    assert shown == expected
