"""A small FER-2013 of drawn pictures, and the tiny model in every precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_deploy.bundle.manifest import Bundle
from fer_deploy.data.probe import probe_images
from fer_deploy.exporting.onnx import Toolchain, import_toolchain


@pytest.fixture(scope="session")
def tools() -> Toolchain:
    """The packages of an export."""
    for package in ("tensorflow", "tf2onnx", "onnx", "onnxslim"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'fer-deploy[export]'")
    return import_toolchain()


@pytest.fixture(scope="session")
def drawn_fer2013(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fer2013.csv of the probe set, mirrored in Training and as it is in PublicTest; classes in turn."""
    probe = probe_images()[..., 0]
    path = tmp_path_factory.mktemp("drawn") / "fer2013.csv"
    rows = ["emotion,pixels,Usage"]
    for usage, images in (("Training", probe[:, :, ::-1]), ("PublicTest", probe)):
        rows += [f"{i % 7},{' '.join(map(str, image.ravel()))},{usage}" for i, image in enumerate(images)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def full_bundle(tiny_model_path: Path, drawn_fer2013: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny model in all precisions, made by the real exporter."""
    for package in ("tf2onnx", "onnx", "onnxslim", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'fer-deploy[export,onnx]'")
    from fer_deploy.exporting.exporter import export_bundle

    return export_bundle(tiny_model_path, tmp_path_factory.mktemp("bundles") / "full", data=drawn_fer2013)


@pytest.fixture
def images() -> np.ndarray:
    """The probe set: uint8, shape (111, 48, 48, 1)."""
    return probe_images()
