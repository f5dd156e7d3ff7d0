"""What Keras computes on, and the precision that it computes fastest in there."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

from fer_deploy.system.machine import cpu_flags
from fer_deploy.training.model import import_keras


def gpu_name() -> str | None:
    """Name of the GPU that Keras's framework uses, or None where it computes on the CPU."""
    framework = import_keras().backend.backend()
    if framework == "torch":
        import torch

        return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    if framework == "jax":
        import jax

        return str(jax.devices()[0].device_kind) if jax.default_backend() == "gpu" else None
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")) if gpus else None


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX)."""
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16"})


def bfloat16_convolves_faster() -> bool:
    """Whether PyTorch trains a convolution in less time in bfloat16 than in float32 here; it takes 0.1 s to find out.

    Not every CPU that has the instructions gains by them: an Intel Xeon with AVX512-BF16 whose AMX is masked takes 1.7
    times as long in bfloat16, while an AMD EPYC gains.
    """
    import torch

    def seconds(dtype: torch.dtype) -> float:
        images = torch.rand(16, 64, 24, 24).to(dtype, memory_format=torch.channels_last)
        kernel = torch.rand(64, 64, 3, 3).to(dtype, memory_format=torch.channels_last).requires_grad_()
        taken = []
        for _ in range(5):
            started = time.perf_counter()
            torch.nn.functional.conv2d(images, kernel).sum().backward()
            taken.append(time.perf_counter() - started)
        return min(taken)

    return seconds(torch.bfloat16) < seconds(torch.float32)


def resolve_precision(precision: str) -> str:
    """Turns ``auto`` into the Keras dtype policy that is fast here; other values pass."""
    if precision != "auto":
        return precision
    if gpu_name() is not None:
        return "mixed_bfloat16"
    # TensorFlow's and JAX's CPU convolutions gain nothing from bfloat16
    on_torch = import_keras().backend.backend() == "torch"
    return "mixed_bfloat16" if on_torch and cpu_has_bfloat16() and bfloat16_convolves_faster() else "float32"


def describe_device() -> dict[str, Any]:
    """The framework with its version, and the device, for reports."""
    keras = import_keras()
    framework = keras.backend.backend()
    module = import_module(framework)
    return {
        "keras": keras.__version__,
        "framework": framework,
        "framework_version": str(module.__version__),
        "gpu": gpu_name(),
    }
