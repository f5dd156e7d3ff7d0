"""The GPUs that Linux and the driver tell of; a machine without either is a plain line."""

from __future__ import annotations

import ctypes
import ctypes.util
import shutil
import subprocess
from pathlib import Path

import pytest

from fer_deploy.system.gpus import ask_driver, gpu_names

INFORMATION = "Model: \t\t NVIDIA H200\nIRQ:   \t\t 16\nGPU UUID: \t GPU-1\n"
VERSION = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\nGCC version: 12\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for index in range(2):
        (tmp_path / f"gpus/0000:0{index}:00.0").mkdir(parents=True)
        (tmp_path / f"gpus/0000:0{index}:00.0/information").write_text(INFORMATION)
    (tmp_path / "version").write_text(VERSION)
    return tmp_path


def test_what_linux_tells(proc: Path, tmp_path: Path) -> None:
    assert gpu_names(proc) == ("NVIDIA H200", "NVIDIA H200")
    assert gpu_names(tmp_path / "nothing") == ()


def test_no_driver_at_all(tmp_path: Path) -> None:
    found = ask_driver(tmp_path / "nothing", "libnothing-of-the-kind.so.1")
    reason = "no NVIDIA driver: there is no libnothing-of-the-kind.so.1"
    assert found == {"version": None, "cuda": None, "gpus": [], "reason": reason}


def test_a_driver_without_its_library(proc: Path) -> None:
    found = ask_driver(proc, "libnothing-of-the-kind.so.1")
    assert found["version"] == "570.86.15"
    assert "the driver 570.86.15 is loaded, and its library" in (found["reason"] or "")


def test_a_library_that_is_no_driver(tmp_path: Path) -> None:
    library = ctypes.util.find_library("c")
    assert library
    assert ask_driver(tmp_path, library)["reason"] == "the driver's library has no cuDriverGetVersion"


DRIVER = """
#include <stddef.h>
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDriverGetVersion(int *version) { *version = 12080; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = index + 7; return 0; }
int cuDeviceGetName(char *name, int bytes, int device) {
    strncpy(name, device == 7 ? "NVIDIA H200" : "NVIDIA A100", bytes); return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) {
    *value = which == 75 ? (device == 7 ? 9 : 8) : which == 76 ? 0 : -1; return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)139 << 30; return 0; }
int cuGetErrorName(int code, const char **name) { *name = "CUDA_ERROR_NO_DEVICE"; return 0; }
"""
"""The driver's functions as cuda.h declares them."""


def driver(folder: Path, init: int) -> str:
    """Compiles a driver whose start gives that code."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    (folder / "cuda.c").write_text(DRIVER)
    command = [compiler, "-shared", "-fPIC", f"-DINIT={init}", str(folder / "cuda.c"), "-o", str(folder / "cuda.so")]
    subprocess.run(command, check=True)
    return str(folder / "cuda.so")


def test_a_driver_with_two_gpus(proc: Path, tmp_path: Path) -> None:
    found = ask_driver(proc, driver(tmp_path, init=0))
    assert (found["version"], found["cuda"], found["reason"]) == ("570.86.15", "12.8", None)
    assert found["gpus"] == [
        {"name": "NVIDIA H200", "target": "sm90", "memory_gib": 139.0},
        {"name": "NVIDIA A100", "target": "sm80", "memory_gib": 139.0},
    ]


def test_a_driver_that_does_not_start(tmp_path: Path) -> None:
    found = ask_driver(tmp_path, driver(tmp_path, init=100))
    assert (found["cuda"], found["gpus"]) == ("12.8", [])
    assert found["reason"] == "the driver's cuInit failed: CUDA_ERROR_NO_DEVICE"


@pytest.mark.gpu
def test_a_gpu() -> None:
    found = ask_driver()
    if not found["gpus"]:
        pytest.skip(f"no GPU: {found['reason']}")
    assert found["reason"] is None
    assert found["cuda"]
    assert all(gpu["name"] and gpu["target"].startswith("sm") and gpu["memory_gib"] > 1 for gpu in found["gpus"])
    assert set(gpu_names()) <= {gpu["name"] for gpu in found["gpus"]}
