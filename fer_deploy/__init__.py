"""fer-deploy: facial-emotion inference, as fast as the hardware allows, with its accuracy proved on FER-2013."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fer_deploy.api import Classifier, Prediction
    from fer_deploy.bundle.manifest import Bundle
    from fer_deploy.errors import FerDeployError
    from fer_deploy.labels import LABELS

__version__ = "0.1.0"
__all__ = ["LABELS", "Bundle", "Classifier", "FerDeployError", "Prediction", "__version__"]

_HOMES = {
    "LABELS": "fer_deploy.labels",
    "Bundle": "fer_deploy.bundle.manifest",
    "Classifier": "fer_deploy.api",
    "FerDeployError": "fer_deploy.errors",
    "Prediction": "fer_deploy.api",
}


def __getattr__(name: str) -> Any:
    """Resolves a public name on first use, so that importing the package costs next to nothing (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
