"""ONNX Runtime: the ONNX files of a bundle on the CPU, or on an NVIDIA GPU with onnxruntime-gpu."""

from __future__ import annotations

import warnings
from typing import Any, Final

import numpy as np

from fer_deploy.backends.base import Backend, Images, Probabilities
from fer_deploy.backends.threads import usable_cores
from fer_deploy.errors import UnavailableError

_PROVIDERS: Final = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_TYPES: Final = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


class OnnxRuntimeBackend(Backend):
    """Runs the bundle's ONNX file in one session; ``run`` may be called from several threads at once.

    ``int8-trt`` is a simulation of what TensorRT makes of that file: every Q/DQ step is computed as the file states it,
    and what lies between two of them in float32, where sums of int8 products up to 2^24 are exact.
    """

    name = "onnx"
    install = ("fer-deploy[onnx]", "fer-deploy[gpu]")
    modules = ("onnxruntime",)
    precisions = ("fp32", "fp16", "int8", "int8-trt")
    devices = tuple(_PROVIDERS)

    _session: Any = None

    def _load(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self.threads or usable_cores()
        self.simulated = self.precision == "int8-trt"
        if self.simulated:  # else Q/DQ are fused into kernels that saturate on CPUs without VNNI
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        wanted = _PROVIDERS[self.device]
        with warnings.catch_warnings():  # that the provider is not there is checked below, and is an error
            warnings.simplefilter("ignore")
            session = onnxruntime.InferenceSession(
                self.bundle.read("onnx", self.precision), options, providers=[wanted]
            )
        if session.get_providers()[0] != wanted:  # ONNX Runtime falls back to the CPU without a word
            raise UnavailableError(
                f"The onnx backend cannot use {self.device} here: ONNX Runtime {onnxruntime.__version__} runs on "
                f"{session.get_providers()[0]} instead of {wanted}. CUDA needs an NVIDIA GPU, its driver, and "
                "pip install 'fer-deploy[gpu]' without fer-deploy[onnx]"
            )
        (takes,), (gives,) = session.get_inputs(), session.get_outputs()
        self._check_model(*((p.name, _TYPES.get(p.type, p.type), str(tuple(p.shape[1:]))) for p in (takes, gives)))
        # the CPU has no fp16 kernels: the values are cast to fp32 and back around every layer
        fp16_on_cpu = (self.precision, self.device) == ("fp16", "cpu")
        self.effective = "fp32" if fp16_on_cpu else "int8" if self.simulated else self.precision
        self.runtime = f"ONNX Runtime {onnxruntime.__version__}"
        self._session = session

    def _infer(self, batch: Images) -> Probabilities:
        (probabilities,) = self._session.run(["probabilities"], {"image": np.ascontiguousarray(batch)})
        result: Probabilities = probabilities
        return result

    def _unload(self) -> None:
        self._session = None
