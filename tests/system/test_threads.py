from __future__ import annotations

import os
from pathlib import Path

import pytest

from fer_deploy.system.machine import usable_cores


def test_no_more_than_the_container_gets(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text("100000 100000\n")
    assert usable_cores(quota) == 1
    quota.write_text("10000 100000\n")
    assert usable_cores(quota) == 1
    unlimited = usable_cores(tmp_path / "absent")
    for text in ("max 100000\n", "6400000 100000\n", "garbage"):
        quota.write_text(text)
        assert usable_cores(quota) == unlimited
    assert 1 <= unlimited <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to CPUs")
def test_no_more_than_the_process_is_bound_to(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores(tmp_path / "absent") == 1
    finally:
        os.sched_setaffinity(0, before)
