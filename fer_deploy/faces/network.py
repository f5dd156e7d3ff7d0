"""A detector's ONNX file, run by OpenVINO, which every installation has, at any picture size.

The file is compiled once, with its sizes left open, and the compiled model is kept on disk like the classifier's. The
first picture of each new size costs about twice its time.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.backends.openvino_cache import compile_cached
from fer_deploy.backends.openvino_import import shared_core
from fer_deploy.errors import ModelError, one_line
from fer_deploy.faces.face import Candidates
from fer_deploy.faces.sight import Sight
from fer_deploy.onnx_file import check_onnx, output_names

LATENCY: Final = "LATENCY"
THROUGHPUT: Final = "THROUGHPUT"


class Network:
    """A compiled detector; ``run`` may be called from several threads at once.

    Args:
        content: The ONNX file: one input of pictures (N, 3, H, W).
        what: How errors name it.
        threads: Threads of the runtime; None leaves it to OpenVINO.

    Attributes:
        outputs: The names of the file's outputs, in its order.
        precision: ``bf16`` where the CPU computes in it (twice as fast, and as many faces found), else ``fp32``.

    Raises:
        ModelError: OpenVINO cannot read the file, or it is no such network.
    """

    def __init__(self, content: bytes, what: str, threads: int | None = None) -> None:
        check_onnx(content, what)
        self.outputs = output_names(content)
        self._core = shared_core()
        self._content, self.what, self._threads = content, what, threads
        can = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = "bf16" if "BF16" in can else "fp32"
        self._lock = threading.Lock()
        self._compiled: dict[str, Any] = {}
        self._idle: dict[str, deque[Any]] = {LATENCY: deque(), THROUGHPUT: deque()}

    def run(self, pictures: NDArray[np.float32], hint: str = LATENCY) -> list[NDArray[np.float32]]:
        """Runs pictures of one size.

        Args:
            pictures: float32 (N, 3, H, W), C-contiguous.
            hint: ``LATENCY`` where nothing else runs: all cores for this call; ``THROUGHPUT`` where other threads
                call, too.

        Returns:
            One array per output, float32, in the order of ``outputs``.
        """
        model, idle = self._model_for(hint), self._idle[hint]
        try:
            request = idle.pop()
        except IndexError:
            request = model.create_infer_request()
        request.infer({0: pictures}, share_inputs=True)
        found = [request.get_output_tensor(index).data.copy() for index in range(len(self.outputs))]
        idle.append(request)
        return found

    def _model_for(self, hint: str) -> Any:
        if hint not in self._compiled:
            with self._lock:
                if hint not in self._compiled:
                    self._compiled[hint] = self._compile(hint)
        return self._compiled[hint]

    def _compile(self, hint: str) -> Any:
        config = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": "bf16" if self.precision == "bf16" else "f32"}
        if self._threads:
            config["INFERENCE_NUM_THREADS"] = str(self._threads)
        try:
            model = compile_cached(self._core, self._content, config, shape=(-1, 3, -1, -1))
        except RuntimeError as error:
            raise ModelError(f"{self.what} is no face detector that OpenVINO can run: {one_line(error)}") from error
        return model

    def open(self) -> Network:
        """Compiles now what ``run`` would compile first."""
        self._model_for(LATENCY)
        return self


class FaceNetwork(ABC):
    """A known network that scores places in pictures, ready to look at them.

    Args:
        content: The ONNX file.
        threads: Threads of the runtime; None leaves it to OpenVINO.
        what: How errors name it; None for ``file``.

    Attributes:
        name: What the command line calls it.
        file: What its file is called.
        sight: How it is best shown a picture.
        outputs: Which outputs its file has, for errors.

    Raises:
        ModelError: It is another file.
    """

    name: str
    file: str
    sight: Sight
    outputs: str

    def __init__(self, content: bytes, threads: int | None = None, what: str | None = None) -> None:
        what = what or self.file
        self.network = Network(content, what, threads)
        if not self.is_one(self.network.outputs):
            count = len(self.network.outputs)
            raise ModelError(f"{what} has {count} outputs; {type(self).__name__} has {self.outputs}")
        self.network.open()

    @staticmethod
    @abstractmethod
    def is_one(outputs: Sequence[str]) -> bool:
        """Tells from the names of a file's outputs whether it is one."""

    @abstractmethod
    def look(self, pictures: NDArray[np.uint8], floor: float, hint: str = LATENCY) -> list[Candidates]:
        """Looks at pictures of one size.

        Args:
            pictures: uint8 (N, H, W, 3), RGB, H and W multiples of 32.
            floor: The least score that counts.
            hint: See ``Network.run``.

        Returns:
            Each picture's candidates, overlapping ones still among them.
        """


def as_input(pictures: NDArray[np.uint8], blue_first: bool = False) -> NDArray[np.float32]:
    """Turns RGB pictures, uint8 (N, H, W, 3), into float32 (N, 3, H, W), 0..255."""
    ordered = pictures[..., ::-1] if blue_first else pictures
    return np.ascontiguousarray(ordered.transpose(0, 3, 1, 2), dtype=np.float32)
