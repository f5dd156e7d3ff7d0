"""OpenVINO: the ONNX files of a bundle on the CPU. The default, and mostly the fastest.

Compiled models lie in the user's cache folder: starting takes a fraction of the time from the second run on. OpenVINO's
own cache (``CACHE_DIR``) is not used: it runs a damaged blob without noticing (seen: wrong probabilities), and reads
ONNX before it looks. In fer-deploy's cache (``system.files``) each blob carries its hash.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from fer_deploy.backends._compat_openvino import import_openvino
from fer_deploy.backends.base import Backend, Images, Probabilities
from fer_deploy.errors import BackendError, UnavailableError
from fer_deploy.system.files import cache_folder, load_blob, store_blob

_lock = threading.Lock()
_cores: dict[int, Any] = {}
_HINTS: Final = {"fp32": "f32", "fp16": "f32", "int8": "f32", "bf16": "bf16"}
"""Always given: left to itself OpenVINO computes in bf16 wherever the CPU can. An fp16 file is computed in fp32."""
_PER_STREAM: Final = 8
"""Batches in flight per stream. Two do for batches that are there; where pictures are decoded on the same cores, more
of them fill the gaps in which Python does not get its turn (two cores, folders of small pictures: 12 % faster)."""
_COMPUTING: Final = ("Convolution", "FullyConnected", "MatMul")
_TYPES: Final = {"u8": "uint8", "f32": "float32"}


def shared_core() -> Any:
    """Returns the ``openvino.Core`` of this process, made once and never freed.

    Each Core sets an alternate stack for the thread's signal handlers, and sets back the one before when it goes. Of
    two that go in the order in which they came the second sets back the first one's, which is no more: the next signal
    (an interrupt, a timer) then ends the process. A forked process gets a Core of its own: it has none of the threads.

    Raises:
        ModuleNotFoundError: OpenVINO is not installed.
    """
    openvino = import_openvino()
    with _lock:
        if os.getpid() not in _cores:
            _cores[os.getpid()] = openvino.Core()
        return _cores[os.getpid()]


def compile_cached(
    core: Any,
    model: bytes,
    config: Mapping[str, str],
    folder: Path | None = None,
    shape: tuple[int, ...] | None = None,
) -> Any:
    """Compiles an ONNX model for the CPU, or takes it from the cache.

    Args:
        core: The ``openvino.Core``.
        model: The ONNX file's content.
        config: OpenVINO's properties for the compilation.
        folder: The cache; ``None`` for the user's.
        shape: What its one input shall take, -1 where any size will do; ``None`` for what the file says.

    Returns:
        An ``openvino.CompiledModel``. A cache that cannot be read or written changes nothing but the time.
    """
    types = import_openvino().Type
    types(types.f32.to_dtype())  # makes tables, at whose first use two threads would wait for each other (2026.4: ever)
    path = (folder or cache_folder("openvino")) / f"{_key(core, model, config, shape)}.blob"
    blob = load_blob(path)
    if blob is not None:
        with suppress(RuntimeError):  # made by another build of OpenVINO under the same version: made again
            return core.import_model(BytesIO(blob), "CPU", dict(config))
    read = core.read_model(model)
    if shape is not None:
        read.reshape(list(shape))
    compiled = core.compile_model(read, "CPU", dict(config))
    with suppress(OSError):
        store_blob(path, compiled.export_model().getvalue())
    return compiled


def _key(core: Any, model: bytes, config: Mapping[str, str], shape: tuple[int, ...] | None) -> str:
    """Hashes all that a compiled model depends on; the CPU by what it can, since its name can be as good as none."""
    cpu = [str(core.get_property("CPU", key)) for key in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    facts = [import_openvino().__version__, *cpu, str(os.cpu_count()), str(sorted(config.items())), str(len(model))]
    facts += [] if shape is None else [str(shape)]
    return hashlib.sha256("\n".join(facts).encode() + model).hexdigest()


class OpenVinoBackend(Backend):
    """Compiles the model once for latency (``run``) and, when it is first streamed, once for throughput.

    ``run`` and ``run_stream`` may be called from several threads at once.
    """

    name = "openvino"
    install = ("fer-deploy",)
    modules = ("openvino",)
    precisions = ("fp32", "fp16", "int8", "bf16")
    default_batch = 32
    """As fast as 16 and 5 % faster than 64 in interleaved rounds (int8, AVX-512 VNNI, two cores); at 256 what lies
    between two layers leaves the caches and half the speed is lost."""

    @classmethod
    def import_runtime(cls) -> Any:
        """Imports OpenVINO without its converter."""
        return import_openvino()

    def _load(self) -> None:
        openvino = self.import_runtime()
        self._artefact = "fp32" if self.precision == "bf16" else self.precision
        self._content = self.bundle.read("onnx", self._artefact)
        self._core = shared_core()
        can = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if self.precision == "bf16" and "BF16" not in can:
            raise UnavailableError(f"The openvino backend has no bf16 on this CPU; it has: {', '.join(can)}")
        self._lock = threading.Lock()
        self._compiled: dict[str, Any] = {}
        self._idle: dict[str, deque[Any]] = {"LATENCY": deque(), "THROUGHPUT": deque()}
        model = self._model_for("LATENCY")
        self._check_model(_describe(model.input(0), "image"), _describe(model.output(0), "probabilities"))
        self.effective = _effective(model)
        expected = "fp32" if self.precision == "fp16" else self.precision  # the CPU has no fp16 kernels of its own
        if self.effective != expected:
            raise BackendError(
                f"OpenVINO computes the {self.precision} model in {self.effective} on this CPU, not in {expected}"
            )
        self.runtime = f"OpenVINO {openvino.__version__.partition('-')[0]}"

    def _infer(self, batch: Images, hint: str = "LATENCY") -> Probabilities:
        idle = self._idle[hint]
        try:
            request = idle.pop()
        except IndexError:
            request = self._model_for(hint).create_infer_request()
        request.infer({0: batch}, share_inputs=True)
        result: Probabilities = request.get_output_tensor(0).data.copy()
        idle.append(request)
        return result

    def run_concurrent(self, batch: Images) -> Probabilities:
        """Leaves the other cores to the batches of other threads."""
        self._check(batch)
        with self._explained(f"failed on a batch of {len(batch)}"):
            return self._infer(batch, "THROUGHPUT")

    def run_stream(self, batches: Iterable[Images]) -> Generator[Probabilities, None, None]:
        """Keeps batches in flight, so that no stream waits for Python; results come in order."""
        source = iter(batches)
        first = list(islice(source, 2))
        if len(first) < 2:  # a single batch is done sooner by all cores together
            yield from super().run_stream(first)
            return
        model = self._model_for("THROUGHPUT")
        in_flight = _PER_STREAM * model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        idle = [model.create_infer_request() for _ in range(in_flight)]
        busy: deque[tuple[Any, Images]] = deque()  # the batch is kept alive: the runtime reads it where it lies
        try:
            for batch in chain(first, source):
                self._check(batch)
                if not idle:
                    idle.append(busy[0][0])
                    yield self._finish(*busy.popleft())
                request = idle.pop()
                busy.append((request, batch))  # before it starts, so that an interrupt cannot leave it unknown
                request.start_async({0: batch}, share_inputs=True)
                while len(busy) > 1 and busy[0][0].wait_for(0):  # where batches come slowly, answers need not
                    idle.append(busy[0][0])
                    yield self._finish(*busy.popleft())
            while busy:
                yield self._finish(*busy.popleft())
        finally:
            for request, _ in busy:
                request.wait()

    def _finish(self, request: Any, batch: Images) -> Probabilities:
        with self._explained(f"failed on a batch of {len(batch)}"):
            request.wait()
        result: Probabilities = request.get_output_tensor(0).data.copy()
        return result

    def _model_for(self, hint: str) -> Any:
        if hint in self._compiled:
            return self._compiled[hint]
        with self._lock:
            if hint not in self._compiled:
                self._compiled[hint] = compile_cached(self._core, self._content, self._config(hint))
            return self._compiled[hint]

    def _config(self, hint: str) -> dict[str, str]:
        config = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": _HINTS[self.precision]}
        threads, streams = self.threads, None
        if hint == "THROUGHPUT":  # settings are of streams: a single call is best left to the runtime
            threads, streams = self.threads or self.settings.threads, self.settings.streams
            config["ENABLE_CPU_PINNING"] = "NO"  # a stream bound to one core waits there for whatever decodes pictures
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        if streams:
            config["NUM_STREAMS"] = str(streams)
        return config

    def parallelism(self, streaming: bool) -> tuple[int | None, int | None]:
        """Asks the compiled model; a single call has one stream."""
        model = self._model_for("THROUGHPUT" if streaming else "LATENCY")
        return int(model.get_property("NUM_STREAMS")), int(model.get_property("INFERENCE_NUM_THREADS"))

    def _unload(self) -> None:
        self._content = b""
        self._compiled, self._idle, self._core = {}, {}, None


def _describe(port: Any, name: str) -> tuple[str, str, str]:
    """Gives a port's name, type and shape without N; a port can go by many names once layers are fused."""
    kind, shape = port.element_type.get_type_name(), port.partial_shape
    sizes = [dimension.get_length() if dimension.is_static else -1 for dimension in shape][1:]
    return (name if name in port.names else port.any_name), _TYPES.get(kind, kind), str(tuple(sizes))


def _effective(model: Any) -> str:
    """Reads from the compiled graph in what type the convolutions and matrix products are really computed."""
    info = (node.rt_info for node in model.get_runtime_model().get_ops())
    kinds = {str(i["runtimePrecision"].astype(str)) for i in info if i["layerType"].astype(str) in _COMPUTING}
    if kinds & {"u8", "i8"}:  # single layers may have been left in float on purpose
        return "int8"
    return "+".join(sorted("fp32" if kind == "f32" else kind for kind in kinds))
