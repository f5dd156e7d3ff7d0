"""What figures were measured on: the processor and the software, never the machine's name.

How many threads a runtime should use.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Final, TypedDict

from fer_deploy import __version__

_CPUINFO: Final = Path("/proc/cpuinfo")
_MEMINFO: Final = Path("/proc/meminfo")
CPU_CLASSES: Final = (
    ("amx", {"amx_tile", "amx_int8"}),
    ("avx512-vnni", {"avx512_vnni"}),
    ("avx512", {"avx512f"}),
    ("avx-vnni", {"avx_vnni"}),
    ("avx2", {"avx2"}),
)
"""Classes by the instructions that decide int8 speed and, without VNNI, int8 accuracy; the first that fits counts."""
_VECTOR: Final = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_int8", "amx_bf16", "amx_fp16"),
)
_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")


class MachineInfo(TypedDict):
    """Keys of the ``machine`` object in JSON; what cannot be found out is None.

    Args:
        cpu: The processor's name.
        cpu_class: One of ``CPU_CLASSES``, or ``other``.
        physical_cores: Cores, hyperthreads not counted.
        logical_cpus: Hyperthreads counted.
        usable_cpus: Those that this process may run on.
        memory_gib: All memory, in GiB.
        os: System and architecture.
        python: Python's version.
        fer_deploy: Our version.
    """

    cpu: str | None
    cpu_class: str
    physical_cores: int | None
    logical_cpus: int | None
    usable_cpus: int | None
    memory_gib: float | None
    os: str
    python: str
    fer_deploy: str


def machine_info(cpuinfo: Path = _CPUINFO, meminfo: Path = _MEMINFO) -> MachineInfo:
    """Describes this machine.

    Args:
        cpuinfo: Linux's list of processors; absent on other systems.
        meminfo: Linux's account of memory; absent on other systems.
    """
    processors = _processors(cpuinfo)
    first = processors[0] if processors else {}
    return {
        "cpu": first.get("model name") or platform.processor() or None,
        "cpu_class": cpu_class(first.get("flags", "")),
        "physical_cores": _physical_cores(processors),
        "logical_cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(meminfo),
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "fer_deploy": __version__,
    }


def cpu_flags(cpuinfo: Path = _CPUINFO) -> set[str]:
    """Instruction sets of the CPU, as Linux names them; empty on other systems."""
    return set(next((cpu.get("flags", "") for cpu in _processors(cpuinfo)), "").split())


def vector_instructions(cpuinfo: Path = _CPUINFO) -> tuple[str, ...]:
    """Lists those of the CPU's instruction sets that decide how fast a network runs, as Linux names them."""
    flags = cpu_flags(cpuinfo)
    return tuple(name for name in _VECTOR if name in flags)


def cpu_class(flags: str) -> str:
    """Gives the class of a CPU from the flags in ``/proc/cpuinfo``; ``other`` for none of ours."""
    present = set(flags.split())
    return next((name for name, needed in CPU_CLASSES if needed <= present), "other")


def _processors(cpuinfo: Path) -> list[dict[str, str]]:
    """Reads one dictionary per logical CPU; none where there is no such file."""
    blocks = [_fields(block) for block in _read(cpuinfo).split("\n\n")]
    return [block for block in blocks if "processor" in block]


def _fields(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _physical_cores(processors: list[dict[str, str]]) -> int | None:
    cores = {(cpu["physical id"], cpu["core id"]) for cpu in processors if {"physical id", "core id"} <= cpu.keys()}
    return len(cores) or None


def _memory_gib(meminfo: Path) -> float | None:
    words = _fields(_read(meminfo)).get("MemTotal", "").split()  # "32864208 kB"
    return round(int(words[0]) / (1 << 20), 1) if words and words[0].isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


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
