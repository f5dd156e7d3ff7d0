from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from fer_deploy.system.machine import cpu_class, machine_info

CPUINFO = """processor : 0
model name\t: Some CPU @ 2.00GHz
physical id : 0
core id : {core0}
flags\t\t: fpu avx2 avx512f avx512_vnni

processor : 1
model name\t: Some CPU @ 2.00GHz
physical id : 0
core id : 1
flags\t\t: fpu avx2 avx512f avx512_vnni

Hardware : last words
"""


def test_this_machine() -> None:
    info = machine_info()
    assert json.loads(json.dumps(info)) == info
    assert info["python"] == platform.python_version()
    assert platform.node() not in info.values()
    assert 1 <= (info["usable_cpus"] or 0) <= (info["logical_cpus"] or 0)


@pytest.mark.parametrize(("core0", "cores"), [(0, 2), (1, 1)])
def test_linux(core0: int, cores: int, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO.format(core0=core0))
    (tmp_path / "meminfo").write_text("MemTotal:       32864208 kB\nMemFree: 1 kB\n")
    info = machine_info(tmp_path / "cpuinfo", tmp_path / "meminfo")
    assert (info["cpu"], info["cpu_class"]) == ("Some CPU @ 2.00GHz", "avx512-vnni")
    assert (info["physical_cores"], info["memory_gib"]) == (cores, 31.3)


@pytest.mark.parametrize("content", [None, "", "nonsense", "processor:\n\n:::\nMemTotal: x kB"])
def test_where_the_system_does_not_tell(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "info"
    if content is not None:
        file.write_text(content)
    info = machine_info(file, file)
    assert (info["cpu_class"], info["physical_cores"], info["memory_gib"]) == ("other", None, None)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("avx2 avx512f avx512_vnni amx_tile amx_int8 amx_bf16", "amx"),
        ("avx2 avx512f avx512_vnni amx_tile", "avx512-vnni"),
        ("avx2 avx512f", "avx512"),
        ("avx2 avx_vnni", "avx-vnni"),
        ("avx avx2", "avx2"),
        ("sse4_2 avx", "other"),
        ("", "other"),
    ],
)
def test_cpu_classes(flags: str, expected: str) -> None:
    assert cpu_class(flags) == expected
