"""The ``trt`` backend: TensorRT, or TensorRT for RTX, on an NVIDIA GPU."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from types import MappingProxyType

import numpy as np

from fer_deploy.backends.base import Backend, Images, Probabilities
from fer_deploy.backends.tensorrt.builder import BuildOptions, Report
from fer_deploy.backends.tensorrt.cuda import Cuda
from fer_deploy.backends.tensorrt.engine_cache import offered_engines
from fer_deploy.backends.tensorrt.flavour import INSTALL, MODULES, Flavour, import_flavour
from fer_deploy.backends.tensorrt.lanes import Lane, Runner
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import BackendError

_LOG = logging.getLogger(__name__)
_IN_FLIGHT = 2
"""Batches: while one is computed, the next is copied and the one before is handed out."""


class TensorRtBackend(Backend):
    """Runs the bundle's engine for this GPU, or one built from its ONNX file and kept in the user's cache.

    ``run`` and ``run_stream`` may be called from several threads at once.

    Args:
        options: Batch sizes and compatibility of engines that are built; the defaults where None.
        graph: Whether CUDA graphs are used.
    """

    name = "trt"
    install = INSTALL
    modules = ("|".join(MODULES), "cuda.bindings")
    precisions = ("fp32", "fp16", "int8-trt")
    devices = ("cuda",)
    aliases = MappingProxyType({"int8": "int8-trt"})

    _runner: Runner | None = None

    def __init__(
        self,
        bundle: Bundle,
        precision: str = "fp32",
        device: str = "cuda",
        threads: int | None = None,
        options: BuildOptions | None = None,
        graph: bool = True,
    ) -> None:
        super().__init__(bundle, precision, device, threads)
        self._options, self._graph = options or BuildOptions(), graph

    def _load(self) -> None:
        flavour, cuda = import_flavour(), Cuda()
        gpu = cuda.gpu()
        offered = offered_engines(self.bundle, self.precision, flavour, gpu, self._options, _without_phases())
        self._runner = _first_taken(offered, flavour, cuda, self._graph)
        self._check_model(self._runner.takes, self._runner.gives)
        self.effective = "int8" if self.precision == "int8-trt" else self.precision
        self.runtime = f"{flavour.name} {flavour.version}"
        self.gpu = gpu.name

    def _infer(self, batch: Images) -> Probabilities:
        (predictions,) = self.run_stream([batch])
        return predictions

    def run_stream(self, batches: Iterable[Images]) -> Generator[Probabilities, None, None]:
        """Computes one batch while the next is copied to the GPU; results come in order."""
        counts: deque[int] = deque()
        gathered: list[Probabilities] = []
        for predictions in self._pipeline(self._parts(batches, counts)):
            gathered.append(predictions)
            if len(gathered) == counts[0]:
                counts.popleft()
                yield gathered[0] if len(gathered) == 1 else np.concatenate(gathered)
                gathered = []

    def _parts(self, batches: Iterable[Images], counts: deque[int]) -> Iterator[Images]:
        """Splits what is larger than the engine's profile, and notes into how many parts."""
        for batch in batches:
            self._check(batch)
            size = self._live.max_batch
            starts = range(0, len(batch), size)
            counts.append(len(starts))
            yield from (batch[start : start + size] for start in starts)

    def _pipeline(self, parts: Iterable[Images]) -> Generator[Probabilities, None, None]:
        busy: deque[tuple[Lane, int]] = deque()
        try:
            for part in parts:
                if len(busy) == _IN_FLIGHT:
                    yield self._finish(busy)
                with self._explained(f"failed on a batch of {len(part)}"):
                    busy.append((self._live.take(len(part)), len(part)))
                    busy[-1][0].start(part)
            while busy:
                yield self._finish(busy)
        finally:
            for lane, _ in busy:  # left in the middle: what is under way is waited for
                with suppress(BackendError):
                    lane.finish(0)
                self._live.put_back(lane)

    def _finish(self, busy: deque[tuple[Lane, int]]) -> Probabilities:
        lane, n = busy[0]
        with self._explained(f"failed on a batch of {n}"):
            predictions = lane.finish(n)
        busy.popleft()
        self._live.put_back(lane)
        return predictions

    def listing(self) -> str:
        """What the open engine says of its layers, in TensorRT's words."""
        return self._live.listing()

    def device_seconds(self, batch: int, repeats: int) -> list[float]:
        """Seconds that the GPU computes for a batch, without copies; none for more than the engine takes at once.

        Args:
            batch: Pictures; the next power of two is computed, as in ``run``.
            repeats: How many samples.
        """
        if batch > self._live.max_batch:
            return []
        with self._explained(f"failed on a batch of {batch}"):
            lane = self._live.take(batch)
            try:
                return lane.device_seconds(repeats)
            finally:
                self._live.put_back(lane)

    @property
    def _live(self) -> Runner:
        assert self._runner is not None  # run and run_stream have checked that the backend is open
        return self._runner

    def _unload(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()


def _without_phases() -> Report:
    """Tells what is built and why on stderr, where logging's warnings go, but not each phase of a build."""
    said = ""

    def say(line: str) -> None:
        nonlocal said
        if not said or not line.startswith(f"{said}: "):
            said = line
            _LOG.warning("%s", line)

    return say


def _first_taken(offered: Iterable[bytes], flavour: Flavour, cuda: Cuda, graph: bool) -> Runner:
    """Loads the first engine that TensorRT takes; the last one offered is new, so its refusal is the error."""
    refusal: BackendError | None = None
    for engine in offered:
        if refusal is not None:
            _LOG.warning("%s; another one is taken", refusal)
        try:
            return Runner(flavour, cuda, engine, graph)
        except BackendError as error:
            refusal = error
    raise refusal or BackendError("No engine was offered")
