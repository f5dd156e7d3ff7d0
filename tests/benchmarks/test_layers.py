"""``benchmarks/layers.py`` on the shipped fast network."""

from __future__ import annotations

import layers

from fer_deploy.bundle.manifest import Bundle


def test_each_convolution_has_a_time_and_the_int8_kernel_that_took_it() -> None:
    found = layers.profile(Bundle.load("fast").read("onnx", "int8"), batch=2, rounds=5)
    convolutions = [kernel for _, kernel, _ in found if kernel.startswith("Convolution")]
    assert len(convolutions) == 8
    assert all("I8" in kernel or "i8" in kernel for kernel in convolutions)
    assert all(seconds > 0 for *_, seconds in found)
    assert layers.table(found).count("Convolution") <= 8
