"""Runs an engine: pinned memory, asynchronous copies and one CUDA graph per batch size."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from fer_deploy.backends.base import Images, Probabilities
from fer_deploy.backends.tensorrt.cuda import Buffer, Cuda
from fer_deploy.backends.tensorrt.flavour import ERRORS, Flavour
from fer_deploy.errors import BackendError, one_line
from fer_deploy.labels import INPUT_SHAPE, NUM_CLASSES

_IDLE: Final = 6
"""Lanes kept for the next batch; the ones unused for longest go first. Each has an execution context of its own."""

Port = tuple[str, str, str]
"""Name, type and shape without N of a tensor, as ``Backend._check_model`` takes it."""


class Lane:
    """One batch size on one stream: buffers at fixed addresses, so that one graph holds copies and kernels.

    Args:
        cuda: CUDA's runtime.
        context: An execution context of this lane's own.
        batch: Pictures.
        graph: Whether the work is recorded as a CUDA graph and replayed, which takes one call per batch.
    """

    def __init__(self, cuda: Cuda, context: Any, batch: int, graph: bool) -> None:
        self.batch = batch
        self._cuda, self._context = cuda, context
        self._stream: Any = None
        self._graph: Any = None
        self._buffers: list[Buffer] = []
        try:
            self._stream = cuda.call("cudaStreamCreateWithFlags", cuda.runtime.cudaStreamNonBlocking)
            self._pixels = self._buffer((batch, *INPUT_SHAPE), np.uint8)
            self._predictions = self._buffer((batch, NUM_CLASSES), np.float32)
            taken = (
                context.set_input_shape("image", self._pixels.array.shape)
                and context.set_tensor_address("image", self._pixels.address)
                and context.set_tensor_address("probabilities", self._predictions.address)
            )
            if not taken:
                raise BackendError(f"TensorRT does not take batches of {batch}: not in the engine's profile")
            self._pixels.array[:] = 0
            self._enqueue()  # finishes kernels and memory, which must not happen while a graph is recorded
            self._wait()
            if graph:
                self._graph = self._record(self._enqueue)
        except BaseException:
            self.free()
            raise

    def _buffer(self, shape: tuple[int, ...], dtype: type[np.generic]) -> Buffer:
        self._buffers.append(Buffer(self._cuda, shape, dtype))
        return self._buffers[-1]

    def _enqueue(self) -> None:
        self._pixels.upload(self._stream)
        self._compute()
        self._predictions.download(self._stream)

    def _compute(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise BackendError(f"TensorRT cannot start a batch of {self.batch}")

    def _record(self, work: Callable[[], None]) -> Any:
        """Gives a graph of what ``work`` enqueues."""
        # other threads may go on allocating and copying meanwhile
        mode = self._cuda.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._cuda.call("cudaStreamBeginCapture", self._stream, mode)
        try:
            work()
        finally:
            recorded = self._cuda.call("cudaStreamEndCapture", self._stream)
        try:
            return self._cuda.call("cudaGraphInstantiate", recorded, 0)
        finally:
            self._cuda.call("cudaGraphDestroy", recorded)

    def device_seconds(self, repeats: int) -> list[float]:
        """Times the kernels alone, by the GPU's own clock: neither copies nor the host count.

        Where the lane has a graph, so has this: one of the kernels only.
        """
        cuda, stream = self._cuda, self._stream
        graph = None if self._graph is None else self._record(self._compute)
        events: list[Any] = []
        try:
            events += (cuda.call("cudaEventCreate") for _ in range(2))
            samples = []
            for _ in range(repeats):
                cuda.call("cudaEventRecord", events[0], stream)
                if graph is None:
                    self._compute()
                else:
                    cuda.call("cudaGraphLaunch", graph, stream)
                cuda.call("cudaEventRecord", events[1], stream)
                self._wait()
                samples.append(cuda.call("cudaEventElapsedTime", *events) / 1e3)
            return samples
        finally:
            for event in events:
                cuda.call("cudaEventDestroy", event)
            if graph is not None:
                cuda.call("cudaGraphExecDestroy", graph)

    def start(self, images: Images) -> None:
        """Starts up to ``batch`` pictures, uint8 (n, 48, 48, 1); what is left over of the batch is computed in vain."""
        np.copyto(self._pixels.array[: len(images)], images)
        if self._graph is None:
            self._enqueue()
        else:
            self._cuda.call("cudaGraphLaunch", self._graph, self._stream)

    def finish(self, n: int) -> Probabilities:
        """Waits for what was started; returns the first ``n`` rows, float32 (n, 7), the caller's own."""
        self._wait()
        return self._predictions.array[:n].copy()

    def _wait(self) -> None:
        self._cuda.call("cudaStreamSynchronize", self._stream)

    def free(self) -> None:
        """Gives stream, graph, context and memory back; waits for what is still under way."""
        if self._stream is not None:
            self._wait()
        if self._graph is not None:
            self._cuda.call("cudaGraphExecDestroy", self._graph)
        self._context = self._graph = None
        for buffer in self._buffers:
            buffer.free()
        self._buffers = []
        if self._stream is not None:
            self._cuda.call("cudaStreamDestroy", self._stream)
            self._stream = None


class Runner:
    """A deserialised engine and its lanes; lanes may be taken by several threads at once.

    Args:
        flavour: The TensorRT that the engine is for.
        cuda: CUDA's runtime.
        engine: A serialised engine whose origin was checked: TensorRT itself takes what it gets.
        graph: Whether CUDA graphs are used.

    Raises:
        BackendError: TensorRT does not take the engine; with the reason.
    """

    def __init__(self, flavour: Flavour, cuda: Cuda, engine: bytes, graph: bool = True) -> None:
        errors: list[str] = []
        self._logger = flavour.make_logger(lambda severity, text: errors.append(text) if severity in ERRORS else None)
        self._flavour, self._cuda, self._graph = flavour, cuda, graph
        self._lock = threading.Lock()
        self._idle: deque[Lane] = deque()
        self._runtime = flavour.trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            reason = flavour.why_invalid(self._runtime, engine) or one_line(" ".join(errors))
            raise BackendError(
                f"{flavour.name} {flavour.version} does not take the engine: {reason or 'no reason given'}"
            )
        self.takes, self.gives = self._ports()
        self.max_batch = int(self._engine.get_tensor_profile_shape(self.takes[0], 0)[2][0])

    def _ports(self) -> tuple[Port, Port]:
        trt, engine = self._flavour.trt, self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        if len(names) != 2 or len(inputs) != 1:
            raise BackendError(f"The engine has the tensors {', '.join(names)}; expected one input and one output")
        (output,) = set(names) - set(inputs)

        def port(name: str) -> Port:
            shape = tuple(engine.get_tensor_shape(name))[1:]
            return name, np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name, str(shape)

        return port(inputs[0]), port(output)

    def listing(self) -> str:
        """What the engine says of its layers, a line each: TensorRT's own words, types included."""
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(self._flavour.trt.LayerInformationFormat.ONELINE))

    def take(self, n: int) -> Lane:
        """Gives a lane for ``n`` pictures, n <= ``max_batch``; its batch is the next power of two.

        So the odd last batch of a folder needs no graph and no kernels of its own.
        """
        batch = min(self.max_batch, 1 << (n - 1).bit_length())
        with self._lock:
            for lane in self._idle:
                if lane.batch == batch:
                    self._idle.remove(lane)
                    return lane
            return Lane(self._cuda, self._flavour.make_context(self._engine), batch, self._graph)

    def put_back(self, lane: Lane) -> None:
        """Takes a lane back that has finished."""
        with self._lock:
            self._idle.append(lane)
            old = self._idle.popleft() if len(self._idle) > _IDLE else None
        if old is not None:
            old.free()

    def close(self) -> None:
        """Frees all lanes, then the engine, then the runtime; the order matters to TensorRT."""
        while self._idle:
            self._idle.pop().free()
        self._engine = None
        self._runtime = None
