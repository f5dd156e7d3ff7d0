"""An HDF5 file is looked into before Keras reads it: no code, no other files, no weights without a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.errors import ModelError
from fer_deploy.exporting.adapter import check_model_file

h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install 'fer-deploy[export]'")


def write(path: Path, config: Any = (), fill: Callable[[Any], None] = lambda file: None) -> Path:
    with h5py.File(path, "w") as file:
        if config is not None:
            file.attrs["model_config"] = config if isinstance(config, str) else json.dumps(config)
        fill(file.create_group("model_weights"))
    return path


def external_link(group: Any) -> None:
    group["kernel"] = h5py.ExternalLink("/etc/passwd", "x")


def external_storage(group: Any) -> None:
    group.create_dataset("kernel", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def virtual_dataset(group: Any) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (4,))
    group.create_virtual_dataset("kernel", layout)


def huge(group: Any) -> None:
    group.create_dataset("kernel", (1 << 31,), "f4", chunks=(1 << 16,))


@pytest.mark.parametrize(
    ("config", "fill", "message"),
    [
        (None, lambda group: None, "holds weights without the network"),
        ("{", lambda group: None, "model_config is not valid JSON"),
        ("[" * 30_000, lambda group: None, "model_config is not valid JSON"),
        ({"config": [{"class_name": "Lambda"}]}, lambda group: None, "a Lambda layer"),
        ({"class_name": "X", "module": "os"}, lambda group: None, r"needs what is not in the file: os\.X"),
        ([], external_link, r"keeps '/model_weights/kernel' in another file"),
        ([], external_storage, "in another file, which is not read"),
        ([], virtual_dataset, "in another file, which is not read"),
        ([], huge, "stands for 9 GB of weights"),
    ],
)
def test_refused(tmp_path: Path, config: Any, fill: Callable[[Any], None], message: str) -> None:
    path = write(tmp_path / "their.h5", config, fill)
    with pytest.raises(ModelError, match=message) as caught:
        check_model_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_name_is_refused_since_keras_would_not_read_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"ends in \.h5: rename it"):
        check_model_file(write(tmp_path / "their.keras"))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_truncated_file_is_refused(tmp_path: Path, kept: float) -> None:
    path = write(tmp_path / "their.h5", fill=lambda group: group.create_dataset("kernel", data=np.zeros(5000)))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ModelError, match="truncated or damaged"):
        check_model_file(path)


def test_harmless_file_passes(tmp_path: Path) -> None:
    check_model_file(write(tmp_path / "their.hdf5", {"class_name": "Functional"}))
