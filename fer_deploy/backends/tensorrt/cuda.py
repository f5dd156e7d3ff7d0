"""CUDA through cuda-python: every call checked and named, memory that is freed, and the GPU that is here."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_deploy.backends.tensorrt.flavour import INSTALL
from fer_deploy.errors import BackendError, MissingDependencyError, UnavailableError
from fer_deploy.system.gpus import ask_driver


class CudaDevice(NamedTuple):
    """The GPU that is used: the first that CUDA shows.

    Args:
        name: As NVIDIA calls it.
        target: Its compute capability, as ``sm86``.
        driver: The newest CUDA version that the driver speaks, as ``13.0``.
    """

    name: str
    target: str
    driver: str


class Cuda:
    """CUDA's runtime. ``call`` returns what a function gives after its error code, or raises with its name.

    Raises:
        MissingDependencyError: cuda-python is not installed.
    """

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ModuleNotFoundError as error:
            raise MissingDependencyError(f"What the trt backend needs ({error.name})", *INSTALL) from error
        self.runtime: Any = runtime

    def call(self, function: str, *arguments: Any) -> Any:
        """Calls a function by its name in CUDA's manual.

        Returns:
            None, its one result, or a tuple of them.

        Raises:
            BackendError: The call failed; the text has the function, the error's name and its description.
        """
        error, *results = getattr(self.runtime, function)(*arguments)
        if int(error):
            _, text = self.runtime.cudaGetErrorString(error)
            raise BackendError(f"CUDA's {function} failed: {error.name}: {text.decode(errors='replace')}")
        return results[0] if len(results) == 1 else tuple(results) or None

    def gpu(self) -> CudaDevice:
        """Describes the GPU that is used.

        Raises:
            UnavailableError: There is none, or CUDA cannot use it; with the reason.
        """
        driver = ask_driver()
        error, _ = self.runtime.cudaGetDeviceCount()
        reason = driver["reason"] or (error.name if int(error) else None)
        if reason:
            raise UnavailableError(f"The trt backend cannot use cuda here: {reason}")
        first = driver["gpus"][0]
        return CudaDevice(first["name"], first["target"], driver["cuda"] or "")


class Buffer:
    """Memory of one tensor on the host (pinned, as ``array``) and on the GPU (``address``)."""

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self._cuda = cuda
        self._host = self.address = 0
        self.bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        try:
            self._host = int(cuda.call("cudaHostAlloc", self.bytes, 0))
            self.address = int(cuda.call("cudaMalloc", self.bytes))
        except BaseException:
            self.free()
            raise
        memory = (ctypes.c_uint8 * self.bytes).from_address(self._host)
        self.array: NDArray[Any] = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)

    def upload(self, stream: Any) -> None:
        """Starts the copy from the host to the GPU."""
        kind = self._cuda.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._cuda.call("cudaMemcpyAsync", self.address, self._host, self.bytes, kind, stream)

    def download(self, stream: Any) -> None:
        """Starts the copy from the GPU to the host."""
        kind = self._cuda.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._cuda.call("cudaMemcpyAsync", self._host, self.address, self.bytes, kind, stream)

    def free(self) -> None:
        """Gives both memories back; nothing may be under way in them."""
        if self._host:
            self._cuda.call("cudaFreeHost", self._host)
        if self.address:
            self._cuda.call("cudaFree", self.address)
        self._host = self.address = 0
