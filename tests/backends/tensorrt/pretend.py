"""A GPU made of host memory, for what can be tested of a runner without one: order, lifetimes, threads, errors.

What is enqueued runs only when its stream is waited for, which is the worst that a real GPU may do: whoever reads too
early or reuses memory too soon gets wrong answers here. It says nothing about TensorRT or CUDA themselves.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from fer_deploy.backends.tensorrt.flavour import Flavour
from fer_deploy.labels import INPUT_SHAPE, NUM_CLASSES

Compute = Callable[[np.ndarray], np.ndarray]


class Error(enum.IntEnum):
    """As cuda-python's."""

    cudaSuccess = 0  # noqa: N815
    cudaErrorMemoryAllocation = 2  # noqa: N815


class Runtime:
    """The functions of ``cuda.bindings.runtime`` that we use; ``fail`` names one that gives an error from now on."""

    cudaStreamNonBlocking = 1  # noqa: N815
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # noqa: N815

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.streams: dict[int, list[Callable[[], None]]] = {}
        self.recording: dict[int, list[Callable[[], None]]] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.counts = {"launches": 0, "graphs": 0}
        self.events: dict[int, int] = {}
        self.steps = 0
        self.fail = ""
        self._next = 1

    def __getattr__(self, name: str) -> Any:
        method = getattr(type(self), f"_{name}", None)
        if method is None:
            raise AttributeError(name)

        def call(*arguments: Any) -> tuple[Any, ...]:
            if name == self.fail:
                return (Error.cudaErrorMemoryAllocation, None)
            result = method(self, *arguments)
            return (Error.cudaSuccess,) if result is None else (Error.cudaSuccess, result)

        return call

    def cudaGetErrorString(self, error: Error) -> tuple[Error, bytes]:  # noqa: N802
        return Error.cudaSuccess, b"out of memory"

    def enqueue(self, stream: int, work: Callable[[], None]) -> None:
        self.recording.get(stream, self.streams[stream]).append(work)

    def _new(self) -> int:
        self._next += 1
        return self._next

    def _allocate(self, size: int) -> int:
        assert not self.recording, "memory is allocated while a graph is recorded"
        buffer = (ctypes.c_uint8 * size)(*[0xAB] * size)
        self.memory[ctypes.addressof(buffer)] = buffer
        return ctypes.addressof(buffer)

    def _cudaHostAlloc(self, size: int, flags: int) -> int:  # noqa: N802
        return self._allocate(size)

    _cudaMalloc = _allocate  # noqa: N815

    def _cudaFree(self, address: int) -> None:  # noqa: N802
        del self.memory[address]

    _cudaFreeHost = _cudaFree  # noqa: N815

    def _cudaMemcpyAsync(self, to: int, source: int, size: int, kind: int, stream: int) -> None:  # noqa: N802
        assert to in self.memory
        assert source in self.memory
        self.enqueue(stream, lambda: ctypes.memmove(to, source, size) and None)

    def _cudaStreamCreateWithFlags(self, flags: int) -> int:  # noqa: N802
        self.streams[new := self._new()] = []
        return new

    def _cudaStreamSynchronize(self, stream: int) -> None:  # noqa: N802
        assert stream not in self.recording, "a stream is waited for while it is recorded"
        work, self.streams[stream] = self.streams[stream], []
        for step in work:
            step()
            self.steps += 1

    def _cudaStreamDestroy(self, stream: int) -> None:  # noqa: N802
        assert not self.streams.pop(stream)

    def _cudaStreamBeginCapture(self, stream: int, mode: int) -> None:  # noqa: N802
        self.recording[stream] = []

    def _cudaStreamEndCapture(self, stream: int) -> int:  # noqa: N802
        self.graphs[new := self._new()] = self.recording.pop(stream)
        return new

    def _cudaGraphInstantiate(self, graph: int, flags: int) -> int:  # noqa: N802
        self.graphs[new := self._new()] = self.graphs[graph]
        self.counts["graphs"] += 1
        return new

    def _cudaGraphDestroy(self, graph: int) -> None:  # noqa: N802
        del self.graphs[graph]

    _cudaGraphExecDestroy = _cudaGraphDestroy  # noqa: N815

    def _cudaGraphLaunch(self, graph: int, stream: int) -> None:  # noqa: N802
        self.counts["launches"] += 1
        for step in self.graphs[graph]:
            self.enqueue(stream, step)

    def _cudaEventCreate(self) -> int:  # noqa: N802
        self.events[new := self._new()] = -1
        return new

    def _cudaEventRecord(self, event: int, stream: int) -> None:  # noqa: N802
        def note() -> None:
            self.events[event] = self.steps

        self.enqueue(stream, note)

    def _cudaEventElapsedTime(self, start: int, end: int) -> float:  # noqa: N802
        return float(self.events[end] - self.events[start] - 1)  # a ms per step; one is the event

    def _cudaEventDestroy(self, event: int) -> None:  # noqa: N802
        del self.events[event]


def pretend_flavour(runtime: Runtime, compute: Compute, max_batch: int, output: str = "probabilities") -> Flavour:
    """A TensorRT whose every engine computes ``compute`` on the pretended GPU."""

    class Context:
        def __init__(self) -> None:
            self.addresses: dict[str, int] = {}
            self.batch = 0

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self.batch = shape[0]
            return 1 <= shape[0] <= max_batch and shape[1:] == INPUT_SHAPE

        def set_tensor_address(self, name: str, address: int) -> bool:
            self.addresses[name] = address
            return True

        def execute_async_v3(self, stream: int) -> bool:
            pixels, predictions, n = self.addresses["image"], self.addresses["probabilities"], self.batch

            def work() -> None:
                values = np.frombuffer(runtime.memory[pixels], np.uint8).reshape(n, *INPUT_SHAPE)
                np.frombuffer(runtime.memory[predictions], np.float32).reshape(n, NUM_CLASSES)[:] = compute(values)

            runtime.enqueue(stream, work)
            return True

    modes = SimpleNamespace(INPUT="in", OUTPUT="out")
    engine = SimpleNamespace(
        num_io_tensors=2,
        get_tensor_name=lambda index: ("image", output)[index],
        get_tensor_mode=lambda name: modes.INPUT if name == "image" else modes.OUTPUT,
        get_tensor_shape=lambda name: (-1, *INPUT_SHAPE) if name == "image" else (-1, NUM_CLASSES),
        get_tensor_dtype=lambda name: np.uint8 if name == "image" else np.float32,
        get_tensor_profile_shape=lambda name, profile: [(n, *INPUT_SHAPE) for n in (1, 4, max_batch)],
        create_execution_context=Context,
    )
    trt = SimpleNamespace(
        __version__="11.0",
        ILogger=object,
        TensorIOMode=modes,
        nptype=lambda kind: kind,
        Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda content: engine if content else None),
    )
    return Flavour(trt, is_rtx=False)
