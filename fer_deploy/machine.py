"""What figures were measured on: the processor and the software, never the machine's name."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from fer_deploy import __version__


def machine_info() -> dict[str, Any]:
    """Returns the ``machine`` object of ``--json``: cpu, cores, system, python and fer-deploy versions."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "fer_deploy": __version__,
    }


def _cpu_name() -> str:
    """Reads the processor's name where Linux tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
