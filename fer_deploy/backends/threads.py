"""How many threads a runtime should use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from fer_deploy.machine import machine_info

_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(quota: Path = _QUOTA) -> int:
    """Counts the physical cores that this process may really use, at least 1.

    More threads than that make latency worse, by up to three times. Counted are the machine's physical cores, no more
    than the CPUs that the process is bound to, and no more than a container's share of CPU time.

    Args:
        quota: Where Linux states the container's share, as ``<microseconds or max> <period>``.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    physical = machine_info()["physical_cores"] or allowed
    return max(1, min(allowed, physical, _share(quota) or allowed))


def _share(quota: Path) -> int | None:
    try:
        time_us, period_us = quota.read_text(encoding="ascii").split()
        return max(1, round(int(time_us) / int(period_us)))
    except (OSError, ValueError, ZeroDivisionError):  # no container, or no limit ("max")
        return None
