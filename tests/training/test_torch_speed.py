"""PyTorch's convolution, batch normalisation and pooling in Keras's place give what Keras's own gives."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")

COMPARE = """
import keras, numpy as np
from fer_deploy.training.model import build_model
from fer_deploy.training.torch_speed import use_torch_kernels

def steps(fused):
    keras.utils.set_random_seed(0)
    model = build_model(widths=(4, 4, 8, 8), dense_units=8, dropout=(0.0,) * 5, norm_momentum=0.5, stem_stride=STRIDE)
    assert not fused or use_torch_kernels(model) == (21 if STRIDE == 1 else 20)
    model.compile(keras.optimizers.SGD(0.01), "categorical_crossentropy")
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (64, 48, 48, 1)).astype("float32")
    labels = np.eye(7, dtype="float32")[random.integers(0, 7, 64)]
    for _ in range(3):
        loss = model.train_on_batch(images, labels)
    return loss, model.get_weights(), model.predict(images, verbose=0)

(a, wa, pa), (b, wb, pb) = steps(False), steps(True)
np.testing.assert_allclose(a, b, rtol=1e-4)
for x, y in zip(wa, wb):
    np.testing.assert_allclose(x, y, rtol=0.02, atol=2e-3)  # n - 1 against n in the moving variance
np.testing.assert_allclose(pa, pb, atol=5e-3)
"""


@pytest.mark.parametrize("stride", [1, 2])
def test_three_steps_end_where_keras_ends(stride: int) -> None:
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    script = COMPARE.replace("STRIDE", str(stride))
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
