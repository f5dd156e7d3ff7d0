"""ONNX Runtime: the ONNX files of a bundle on the CPU, or on an NVIDIA GPU with CUDA or TensorRT."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from fer_deploy.backends.base import Backend, Images, Probabilities
from fer_deploy.backends.onnxruntime_gpu import PROVIDERS, BoundSession, open_gpu_session
from fer_deploy.backends.threads import usable_cores
from fer_deploy.gpus import ask_driver

_TYPES: Final = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


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
