"""Which NVIDIA GPUs and driver there are, without any package of NVIDIA's."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, Final, TypedDict

PROC: Final = Path("/proc/driver/nvidia")
_LIBRARY: Final = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_NAME_BYTES: Final = 256


class Gpu(TypedDict):
    """One GPU.

    Args:
        name: As NVIDIA calls it.
        target: Its compute capability, like ``sm86``.
        memory_gib: Its memory, in GiB.
    """

    name: str
    target: str
    memory_gib: float


class Driver(TypedDict):
    """The driver and what it shows.

    Args:
        version: Of the kernel module, like ``570.86.15``; None where there is none.
        cuda: The newest CUDA version that it speaks, like ``12.8``; None where its library cannot be used.
        gpus: What CUDA can use.
        reason: Why there is no GPU to use; None where there is one.
    """

    version: str | None
    cuda: str | None
    gpus: list[Gpu]
    reason: str | None


def gpu_names(proc: Path = PROC) -> tuple[str, ...]:
    """Names of the GPUs that the kernel's module drives, in microseconds; none where Linux does not tell."""
    texts = (_read(file) for file in sorted(proc.glob("gpus/*/information")))
    fields = (line.partition(":") for text in texts for line in text.splitlines())
    return tuple(value.strip() for key, _, value in fields if key.strip() == "Model")


def ask_driver(proc: Path = PROC, library: str = _LIBRARY) -> Driver:
    """Starts CUDA's driver and asks it; takes a fraction of a second with a GPU, so it is not for every start.

    Args:
        proc: Where the kernel's module tells of itself.
        library: The driver's own library, which comes with the driver and with nothing else.
    """
    driver: Driver = {"version": _version(proc), "cuda": None, "gpus": [], "reason": None}
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        driver["reason"] = (
            f"no NVIDIA driver: there is no {library}"
            if driver["version"] is None
            else f"the driver {driver['version']} is loaded, and its library {library} is not here: a container must "
            "be started with the GPU"
        )
        return driver
    try:
        driver["cuda"] = _cuda_version(cuda)
        _call(cuda, "cuInit", 0)
        count = ctypes.c_int()
        _call(cuda, "cuDeviceGetCount", ctypes.byref(count))
        driver["gpus"] = [_gpu(cuda, index) for index in range(count.value)]
        driver["reason"] = None if driver["gpus"] else "the driver shows no GPU"
    except OSError as error:
        driver["reason"] = str(error)
    return driver


def _cuda_version(cuda: Any) -> str:
    version = ctypes.c_int()
    _call(cuda, "cuDriverGetVersion", ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _gpu(cuda: Any, index: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_size_t()
    _call(cuda, "cuDeviceGet", ctypes.byref(device), index)
    _call(cuda, "cuDeviceGetName", name, _NAME_BYTES, device)
    _call(cuda, "cuDeviceGetAttribute", ctypes.byref(major), _MAJOR, device)
    _call(cuda, "cuDeviceGetAttribute", ctypes.byref(minor), _MINOR, device)
    _call(cuda, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    return {
        "name": name.value.decode(errors="replace"),
        "target": f"sm{major.value}{minor.value}",
        "memory_gib": round(memory.value / (1 << 30), 1),
    }


def _call(cuda: Any, function: str, *arguments: Any) -> None:
    """Calls a function of the driver's; raises OSError with the function's name and the driver's for the error."""
    try:
        code = getattr(cuda, function)(*arguments)
    except AttributeError as error:
        raise OSError(f"the driver's library has no {function}") from error
    if code:
        text = ctypes.c_char_p()
        known = hasattr(cuda, "cuGetErrorName") and not cuda.cuGetErrorName(code, ctypes.byref(text)) and text.value
        raise OSError(f"the driver's {function} failed: {(text.value or b'').decode() if known else f'error {code}'}")


def _version(proc: Path) -> str | None:
    """Reads the kernel module's version: the first word that looks like one."""
    words = _read(proc / "version").partition("\n")[0].split()
    return next((word for word in words if word[0].isdigit() and "." in word), None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
