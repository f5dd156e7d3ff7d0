"""The toolchain loads Keras on TensorFlow and leaves the user's settings as they were."""

from __future__ import annotations

import os

import pytest

from fer_deploy.exporting.onnx import import_toolchain


@pytest.mark.parametrize("backend", ["torch", None])
def test_the_users_backend_stays_set(backend: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed: pip install 'fer-deploy[export]'")
    import keras  # noqa: F401 - loaded on TensorFlow by conftest's setting, before that is changed here

    if backend:
        monkeypatch.setenv("KERAS_BACKEND", backend)
    else:
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert import_toolchain().keras.backend.backend() == "tensorflow"
    assert os.environ.get("KERAS_BACKEND") == backend
