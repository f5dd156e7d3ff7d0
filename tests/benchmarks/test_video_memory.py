"""``benchmarks/video_memory.py`` in a short form."""

from __future__ import annotations

import pytest

pytest.importorskip("av", reason="PyAV is not installed: pip install 'fer-deploy[video]'")

import video_memory


def test_a_row_for_each_length() -> None:
    (row,) = video_memory.measure([1], (160, 120), every="0.5s")
    assert (row["length_s"], row["size"]) == (1, "160x120")
    assert row["n"] >= 2
    assert 50 < row["peak_mib"] < 2000
