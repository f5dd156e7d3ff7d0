"""What ``auto`` means: which backend, precision and device are taken when the user does not say."""

from __future__ import annotations

from typing import NamedTuple

from fer_deploy.backends.base import Backend
from fer_deploy.backends.registry import backend_class
from fer_deploy.bundle import Bundle

AUTO = "auto"


class Choice(NamedTuple):
    """Names that ``open_backend`` takes as they are."""

    backend: str
    precision: str
    device: str


def choose(bundle: Bundle, backend: str = AUTO, precision: str = AUTO, device: str = AUTO) -> Choice:
    """Fills in what was left open.

    OpenVINO is what every installation has, and the fastest where it was measured; without an ONNX file in the bundle,
    Keras is all there is. The precision stays fp32 as long as no other one is verified.

    Raises:
        UsageError: There is no backend of that name.
    """
    if backend == AUTO:
        has_onnx = any(artefact.format == "onnx" for artefact in bundle.artefacts)
        backend = "openvino" if has_onnx else "keras"
    if device == AUTO:
        device = backend_class(backend).devices[0]
    return Choice(backend, "fp32" if precision == AUTO else precision, device)


def open_backend(
    bundle: Bundle, backend: str = AUTO, precision: str = AUTO, device: str = AUTO, threads: int | None = None
) -> Backend:
    """Chooses a backend and opens it; see ``Backend.open`` for what it raises."""
    choice = choose(bundle, backend, precision, device)
    return backend_class(choice.backend)(bundle, choice.precision, choice.device, threads).open()
