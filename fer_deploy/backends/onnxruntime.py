"""ONNX Runtime: the ONNX files of a bundle on the CPU, or on an NVIDIA GPU with CUDA or TensorRT.

ONNX Runtime on NVIDIA GPUs: nothing may fall back to the CPU, and tensors stay on the GPU (IO binding).
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from fer_deploy.backends.base import Backend, Images, Probabilities
from fer_deploy.errors import UnavailableError
from fer_deploy.labels import INPUT_SHAPE, NUM_CLASSES
from fer_deploy.system.gpus import ask_driver
from fer_deploy.system.machine import usable_cores

_TYPES: Final = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
PROVIDERS: Final = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_INSTALL: Final = {
    "cuda": "pip install 'onnxruntime-gpu[cuda,cudnn]'",
    "tensorrt": "pip install 'onnxruntime-gpu[cuda,cudnn]' and the TensorRT that this ONNX Runtime was built for",
}
_BATCHES: Final = (1, 64, 256)
"""Smallest, usual and largest batch of TensorRT's optimisation profile."""


class OnnxRuntimeBackend(Backend):
    """Runs the bundle's ONNX file in one session; ``run`` may be called from several threads at once.

    ``int8-trt`` is a simulation of what TensorRT makes of that file: every Q/DQ step is computed as the file states it,
    and what lies between two of them in float32 (sums of int8 products up to 2^24 are exact),
    rounded to fp16 where the file says so.
    """

    name = "onnx"
    install = ("fer-deploy[onnx]", "fer-deploy[gpu]")
    modules = ("onnxruntime",)
    precisions = ("fp32", "fp16", "int8", "int8-trt")
    devices = ("cpu", *PROVIDERS)

    _session: Any = None
    _bound: BoundSession | None = None

    def _load(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self._threads()
        self.simulated = self.precision == "int8-trt" and self.device != "tensorrt"
        if self.simulated:  # else Q/DQ are fused into kernels that saturate on CPUs without VNNI
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        model = self.bundle.read("onnx", self.precision)
        if self.device == "cpu":
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        else:
            session = open_gpu_session(onnxruntime, model, self.precision, self.device, options)
            self._bound = BoundSession(onnxruntime, session, "cuda")
            self.gpu = ask_driver()["gpus"][0]["name"]
        (takes,), (gives,) = session.get_inputs(), session.get_outputs()
        self._check_model(*((p.name, _TYPES.get(p.type, p.type), str(tuple(p.shape[1:]))) for p in (takes, gives)))
        self.effective = self._computes_in()
        self.runtime = f"ONNX Runtime {onnxruntime.__version__}"
        self._session = session

    def _threads(self) -> int:
        return self.threads or self.settings.threads or usable_cores()

    def parallelism(self, streaming: bool) -> tuple[int | None, int | None]:
        """One stream; threads are those of the CPU."""
        return 1, self._threads() if self.device == "cpu" else None

    def _computes_in(self) -> str:
        """On the CPU fp16 is cast to fp32 around every layer; CUDA computes int8 files in float between Q and DQ."""
        exceptions = {("fp16", "cpu"): "fp32", ("int8", "cuda"): "fp32", ("fp32", "tensorrt"): "tf32"}
        name = exceptions.get((self.precision, self.device), self.precision)
        return "int8" if name == "int8-trt" else name

    def _infer(self, batch: Images) -> Probabilities:
        if self._bound is not None:
            return self._bound.run(batch)
        (probabilities,) = self._session.run(["probabilities"], {"image": np.ascontiguousarray(batch)})
        result: Probabilities = probabilities
        return result

    def _unload(self) -> None:
        self._session = self._bound = None


def open_gpu_session(onnxruntime: Any, model: bytes, precision: str, device: str, options: Any) -> Any:
    """Opens a session on a GPU.

    Args:
        onnxruntime: The module.
        model: The ONNX file's content.
        precision: Of the file.
        device: ``cuda`` or ``tensorrt``.
        options: ``SessionOptions``, changed so that a node on the CPU is an error.

    Raises:
        UnavailableError: ONNX Runtime cannot use the GPU here, and the missing library is named; or TensorRT does not
            take files of that precision.
    """
    wanted = PROVIDERS[device]
    if device == "tensorrt" and precision == "int8":
        raise UnavailableError("The int8 file is for CPUs; on --device tensorrt ask for --precision int8-trt")
    problem = why_not(onnxruntime, device)
    if problem:
        raise UnavailableError(f"The onnx backend cannot use {device} here: {problem}")
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    chosen = [(wanted, provider_options(device))]
    with contextlib.redirect_stdout(io.StringIO()):  # else what went wrong is printed among our results
        session = onnxruntime.InferenceSession(model, options, providers=chosen, enable_fallback=0)
    if session.get_providers()[0] != wanted:  # ONNX Runtime falls back to the CPU without a word
        raise UnavailableError(
            f"The onnx backend cannot use {device} here: ONNX Runtime {onnxruntime.__version__} runs on "
            f"{session.get_providers()[0]} instead of {wanted}"
        )
    return session


def provider_options(device: str) -> dict[str, str]:
    """What the provider is told; engines are not cached by ONNX Runtime, which would load them on trust.

    Neither ``trt_fp16_enable`` nor ``trt_int8_enable``: without them the types that the file states are kept.
    """
    if device == "cuda":
        return {"use_tf32": "0"}  # else fp32 is rounded to ten bits
    size = "x".join(map(str, INPUT_SHAPE))
    shapes = {name: f"image:{n}x{size}" for name, n in zip(("min", "opt", "max"), _BATCHES, strict=True)}
    return {f"trt_profile_{name}_shapes": shape for name, shape in shapes.items()}


def why_not(onnxruntime: Any, device: str) -> str:
    """Says why ONNX Runtime cannot use a GPU; empty where nothing is known to be missing."""
    if PROVIDERS[device] not in onnxruntime.get_available_providers():
        return (
            f"this ONNX Runtime {onnxruntime.__version__} was built without {PROVIDERS[device]}. "
            "pip install 'fer-deploy[gpu]' without fer-deploy[onnx]"
        )
    folder = Path(onnxruntime.__file__).parent / "capi"
    if hasattr(onnxruntime, "preload_dlls"):  # finds CUDA where pip has put it
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()
    library = missing_library(folder, device)
    if library:
        return f"ONNX Runtime {onnxruntime.__version__} needs {library}. {_INSTALL[device]}"
    return ask_driver()["reason"] or ""


def missing_library(folder: Path, device: str) -> str:
    """Asks the dynamic linker which library a provider lacks; empty if it loads.

    Args:
        folder: Where ONNX Runtime's own libraries lie.
        device: ``cuda`` or ``tensorrt``.
    """
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / f"libonnxruntime_providers_{device}.so"))
    except OSError as error:  # "libcublasLt.so.13: cannot open shared object file: No such file or directory"
        return str(error).partition(":")[0]
    return ""


class Bound(NamedTuple):
    """One batch size's tensors on the device."""

    binding: Any
    pixels: Any
    predictions: Any


class BoundSession:
    """Runs a session with input and output on the device; may be used by several threads at once.

    Args:
        onnxruntime: The module.
        session: An open session.
        place: ``cuda``, or ``cpu`` for the host's memory.
    """

    def __init__(self, onnxruntime: Any, session: Any, place: str) -> None:
        self._ort, self._session, self._place = onnxruntime, session, place
        self._idle: defaultdict[int, list[Bound]] = defaultdict(list)
        self._lock = threading.Lock()

    def run(self, batch: Images) -> Probabilities:
        """Classifies one batch: uint8 (N, 48, 48, 1) crosses to the device, float32 (N, 7) comes back."""
        with self._lock:
            bound = self._idle[len(batch)].pop() if self._idle[len(batch)] else self._bind(len(batch))
        bound.pixels.update_inplace(np.ascontiguousarray(batch))
        self._session.run_with_iobinding(bound.binding)
        result: Probabilities = np.array(bound.predictions.numpy())  # a copy: on the CPU it is the bound memory itself
        with self._lock:
            self._idle[len(batch)].append(bound)
        return result

    def _bind(self, n: int) -> Bound:
        make, binding = self._ort.OrtValue.ortvalue_from_shape_and_type, self._session.io_binding()
        pixels = make((n, *INPUT_SHAPE), np.uint8, self._place, 0)
        predictions = make((n, NUM_CLASSES), np.float32, self._place, 0)
        binding.bind_ortvalue_input("image", pixels)
        binding.bind_ortvalue_output("probabilities", predictions)
        return Bound(binding, pixels, predictions)
