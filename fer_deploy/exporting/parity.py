"""Proof that the written ONNX file computes what Keras computes: it is loaded, run and compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.data.fer2013 import PUBLIC, TEST
from fer_deploy.errors import ModelError
from fer_deploy.exporting.probe import probe_images
from fer_deploy.exporting.toolchain import Toolchain

Images = NDArray[np.uint8]
Probabilities = NDArray[np.float32]
Run = Callable[[Images], Probabilities]

TOLERANCE: Final = 1e-5
"""Largest allowed difference of a probability. float32 sums in another order differ by 1e-7 to 1e-6."""

BATCHES: Final = (1, 37)
"""Two batch sizes, since a graph whose batch is not really free can pass at one; 37 fills no vector evenly."""

SINGLES: Final = 37
"""Pictures that are run one by one; all are run at the larger batch."""

REAL_PICTURES: Final = 512
KERAS_BATCH: Final = 64


@dataclass(frozen=True)
class PictureSet:
    """Pictures for the comparison.

    Args:
        name: What they are, for tables and the manifest.
        images: uint8, shape (N, 48, 48, 1), gray.
    """

    name: str
    images: Images


@dataclass(frozen=True)
class Parity:
    """One runtime at one batch size beside Keras.

    Args:
        backend: ``onnx`` or ``openvino``.
        runtime: The runtime's name and version.
        batch: Pictures per call.
        n: Pictures compared.
        max_abs_difference: Largest difference of any probability.
        agreement: Fraction with the same top-1.
        pictures: Name of the picture set.
    """

    backend: str
    runtime: str
    batch: int
    n: int
    max_abs_difference: float
    agreement: float
    pictures: str


def parity_pictures(data: Path | None) -> PictureSet:
    """Picks the pictures: the first of FER-2013's public test where the data is given, else the built-in set.

    Raises:
        DataError: ``data`` is not FER-2013 or has no test pictures.
    """
    if data is None:
        images = probe_images()
        return PictureSet(f"built-in probe set, {len(images)} pictures", images)
    from fer_deploy.data import load_fer2013

    dataset = load_fer2013(data)
    name = TEST if PUBLIC not in dataset.partitions and TEST in dataset.partitions else PUBLIC
    images = dataset.partition(name).images[:REAL_PICTURES, :, :, None]
    return PictureSet(f"FER-2013 {name}, {len(images)} pictures", np.ascontiguousarray(images))


def keras_probabilities(model: Any, images: Images, tools: Toolchain) -> Probabilities:
    """Runs the Keras model on the CPU, where float32 is float32 (GPUs may use TF32).

    Returns:
        float32, shape (N, 7).

    Raises:
        ModelError: What comes out are not probabilities.
    """
    with tools.tensorflow.device("/CPU:0"):
        parts = [
            np.asarray(model(images[i : i + KERAS_BATCH].astype(np.float32), training=False), dtype=np.float32)
            for i in range(0, len(images), KERAS_BATCH)
        ]
    probabilities = np.concatenate(parts)
    if not np.isfinite(probabilities).all():
        raise ModelError("The model gives values that are not finite: its weights are damaged or it never trained")
    if (probabilities < 0).any() or np.abs(probabilities.sum(axis=1) - 1).max() > 1e-3:
        raise ModelError("The model's outputs are not probabilities (rows must sum to 1): end it with a softmax layer")
    return probabilities


def check_parity(onnx_file: Path, reference: Probabilities, pictures: PictureSet) -> tuple[Parity, ...]:
    """Runs the file in OpenVINO, and in ONNX Runtime where that is installed, and compares.

    Args:
        onnx_file: The file as it was written.
        reference: What Keras makes of the pictures, shape (N, 7).
        pictures: The pictures.

    Returns:
        One entry per runtime and batch size, all within tolerance.

    Raises:
        ModelError: A runtime refuses the file, or differs by more than the tolerance or in a top-1.
    """
    results = []
    for backend, load in (("onnx", _load_onnxruntime), ("openvino", _load_openvino)):
        try:
            runtime, run = load(onnx_file)
        except ModuleNotFoundError:
            continue  # ONNX Runtime is an extra; OpenVINO is always there
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"The exported file does not load in the {backend} backend: {reason}") from error
        for batch in BATCHES:
            n = SINGLES if batch == 1 else len(reference)
            result = _compare(backend, runtime, batch, run, reference[:n], pictures)
            _refuse_difference(result)
            results.append(result)
    return tuple(results)


def _compare(
    backend: str, runtime: str, batch: int, run: Run, reference: Probabilities, pictures: PictureSet
) -> Parity:
    n = len(reference)
    try:
        found = np.concatenate([run(pictures.images[i : min(i + batch, n)]) for i in range(0, n, batch)])
    except Exception as error:  # each runtime has error types of its own
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"The exported file fails in {runtime} at batch {batch}: {reason}") from error
    if found.shape != reference.shape or found.dtype != np.float32:
        raise ModelError(f"{runtime} gives {found.dtype} {found.shape} at batch {batch}, expected {reference.shape}")
    difference = float(np.abs(found - reference).max())
    agreement = float((found.argmax(axis=1) == reference.argmax(axis=1)).mean())
    return Parity(backend, runtime, batch, n, difference, agreement, pictures.name)


def _refuse_difference(result: Parity) -> None:
    if not result.max_abs_difference <= TOLERANCE or result.agreement < 1:  # not <=, so that NaN is refused
        raise ModelError(
            f"The exported file does not compute what Keras computes: {result.runtime} at batch {result.batch} differs "
            f"by {result.max_abs_difference:.2g} (allowed {TOLERANCE:.0e}) and agrees in {result.agreement:.2%} "
            f"of the top-1 on {result.pictures}"
        )


def _load_onnxruntime(onnx_file: Path) -> tuple[str, Run]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # speed does not matter here, and more threads spin where others want to work
    session = onnxruntime.InferenceSession(onnx_file, options, providers=["CPUExecutionProvider"])
    return f"onnxruntime {onnxruntime.__version__}", lambda batch: session.run(["probabilities"], {"image": batch})[0]


def _load_openvino(onnx_file: Path) -> tuple[str, Run]:
    import openvino

    # without the hint OpenVINO computes in bfloat16 on CPUs that have AMX
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(onnx_file, "CPU", settings)
    version = openvino.__version__.partition("-")[0]
    return f"openvino {version}", lambda batch: np.array(compiled({"image": batch})["probabilities"])
