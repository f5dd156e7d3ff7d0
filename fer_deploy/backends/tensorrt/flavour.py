"""The one place that knows how TensorRT 10, TensorRT 11 and TensorRT for RTX differ."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from fer_deploy.errors import MissingDependencyError, UnavailableError, one_line

INSTALL: Final = ("fer-deploy[tensorrt]", "fer-deploy[rtx]")
ERRORS: Final = ("INTERNAL_ERROR", "ERROR")
"""Severities of messages that say why something failed."""
MODULES: Final = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
"""In the order of choice. PyPI's wheels of TensorRT for RTX have the last name, NVIDIA's archive the one before."""


@dataclass(frozen=True)
class Flavour:
    """One of the TensorRTs, imported.

    Args:
        trt: The Python module.
        is_rtx: TensorRT for RTX: builds for named targets without a GPU, and finishes kernels on the user's GPU.
    """

    trt: Any
    is_rtx: bool

    @property
    def name(self) -> str:
        """What tables and manifests call it."""
        return "TensorRT for RTX" if self.is_rtx else "TensorRT"

    @property
    def version(self) -> str:
        """The version that an engine must have been built with to be run."""
        return str(self.trt.__version__)

    @property
    def targets(self) -> tuple[str, ...]:
        """What can be built for without such a GPU, as ``sm86``; nothing for TensorRT, which needs the GPU itself."""
        if not self.is_rtx:
            return ()
        return tuple(name.lower() for name in self.trt.ComputeCapability.__members__ if name.startswith("SM"))

    @property
    def keeps_timings(self) -> bool:
        """Whether measured kernels can be kept for the next build; RTX measures none while building."""
        return not self.is_rtx

    def make_logger(self, sink: Callable[[str, str], None]) -> Any:
        """Makes a logger that hands on severity (``ERROR``, ..., ``VERBOSE``) and text of each message."""
        trt = self.trt

        class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)  # pybind11 wants it by name

            def log(self, severity: Any, message: str) -> None:
                sink(severity.name, message)

        return Logger()

    def make_monitor(self, start: Callable[[str, str | None], None]) -> Any:
        """Makes a progress monitor that hands on each phase and the phase that it is part of."""
        trt = self.trt

        class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                start(phase_name, parent_phase)

            def step_complete(self, phase_name: str, step: int) -> bool:
                return True

            def phase_finish(self, phase_name: str) -> None:
                pass

        return Monitor()

    def network_flags(self) -> int:
        """Flags of a strongly typed network: what is computed in which type stands in the ONNX file alone."""
        return 1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)

    def check_target(self, target: str) -> None:
        """Refuses a target that is not the GPU that is here.

        Raises:
            UnavailableError: This TensorRT cannot build for it from here.
        """
        if not self.is_rtx:
            raise UnavailableError(
                f"TensorRT {self.version} builds for the GPU that it runs on, not for {target} by name; "
                f"engines for named GPUs need TensorRT for RTX: pip install '{INSTALL[1]}'"
            )
        if target not in self.targets:
            raise UnavailableError(
                f"{self.name} {self.version} cannot build for {target}; it can for: {', '.join(self.targets)}"
            )

    def set_target(self, config: Any, target: str) -> None:
        """Says for which GPU to build; an empty target is the one that is here.

        Raises:
            UnavailableError: This TensorRT cannot build for that target from here.
        """
        if target:
            self.check_target(target)
        if self.is_rtx:
            capability = self.trt.ComputeCapability
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(capability, target.upper()) if target else capability.CURRENT, 0)

    def why_invalid(self, runtime: Any, engine: bytes) -> str:
        """Asks the runtime why it does not take an engine; empty where it has no such question or does not say."""
        if not self.is_rtx:
            return ""
        _, diagnostics = runtime.get_engine_validity(engine)
        reasons = self.trt.EngineInvalidityDiagnostics.__members__.items()
        return ", ".join(name.lower().replace("_", " ") for name, bit in reasons if int(diagnostics) & int(bit.value))

    def make_context(self, engine: Any) -> Any:
        """Makes an execution context; on RTX with all kernels finished at once, since a CUDA graph keeps what it saw.

        Its own CUDA graphs stay off: ours hold the copies to and from the GPU as well.
        """
        if not self.is_rtx:
            return engine.create_execution_context()
        trt, config = self.trt, engine.create_runtime_config()
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED
        return engine.create_execution_context(config)


def import_flavour(for_target: str = "") -> Flavour:
    """Imports the TensorRT that is installed: TensorRT itself before TensorRT for RTX.

    Args:
        for_target: A GPU to build for by name; only TensorRT for RTX can do that, so it comes first then.

    Raises:
        MissingDependencyError: None is installed.
        UnavailableError: One is installed, and its libraries cannot be loaded.
    """
    broken = ""
    for module in reversed(MODULES) if for_target else MODULES:
        try:
            return Flavour(importlib.import_module(module), module != "tensorrt")
        except ModuleNotFoundError as error:
            if error.name != module:
                broken = broken or f"{module}: {error}"
        except (ImportError, OSError, RuntimeError) as error:  # the bindings are there, NVIDIA's libraries are not
            broken = broken or f"{module}: {one_line(error, 200)}"
    if broken:
        raise UnavailableError(
            f"TensorRT is installed but cannot be loaded ({broken}). Install it anew: pip install '{INSTALL[0]}'"
        )
    raise MissingDependencyError("What the trt backend needs (tensorrt)", *INSTALL)
