"""``benchmarks/memory.py`` in a short form."""

from __future__ import annotations

from pathlib import Path

import memory
import pytest

from fer_deploy.bundle.manifest import Bundle


def test_a_row_per_folder_and_what_it_takes_more(tiny_bundle: Bundle) -> None:
    rows = memory.measure([3, 70], [2], str(tiny_bundle.path), size=(600, 400))
    assert [(row["pictures"], row["n"]) for row in rows] == [
        ("photos of 600x400", 2),
        ("crops of 48x48", 3),
        ("crops of 48x48", 70),
    ]
    assert all(20 < row["peak_mib"] < 2000 for row in rows)
    assert [rows[0]["more_mib"], rows[1]["more_mib"]] == [0, 0]
    assert rows[2]["more_mib"] == rows[2]["peak_mib"] - rows[1]["peak_mib"]


def test_hard_links_start_anew_before_a_file_has_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LINKS", 4)
    memory.fill(tmp_path / "pictures", b"content", ".png", 10)
    paths = sorted((tmp_path / "pictures").iterdir())
    assert [path.read_bytes() for path in paths] == [b"content"] * 10
    assert [path.stat().st_nlink for path in paths] == [4] * 8 + [2] * 2


def test_a_failed_run_is_an_error(tmp_path: Path) -> None:
    memory.fill(tmp_path / "pictures", b"no picture", ".png", 1)
    with pytest.raises(RuntimeError, match="ended with 1"):
        memory.peak(tmp_path / "pictures")
