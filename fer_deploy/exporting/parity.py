"""Proof that the written ONNX files compute what Keras computes: each is loaded, run and compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from fer_deploy.backends.base import Backend, Images, Probabilities
from fer_deploy.backends.registry import backend_class
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.data.fer2013 import PUBLIC, TEST, Fer2013
from fer_deploy.data.probe import probe_images
from fer_deploy.errors import BackendError, MissingDependencyError, ModelError, UnavailableError
from fer_deploy.verification.tolerances import TOLERANCES

RUNTIMES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "fp32": ("onnx", "openvino"),
        "bf16": ("openvino",),
        "fp16": ("onnx", "openvino"),
        "int8": ("onnx", "openvino"),
        "int8-trt": ("onnx",),  # simulated
    }
)
"""Which backends load which file; ``bf16`` is made of the fp32 file."""

BATCHES: Final = (1, 37)
"""Two batch sizes, since a graph whose batch is not really free can pass at one; 37 fills no vector evenly."""

SINGLES: Final = 37
"""Pictures that are run one by one; all are run at the larger batch."""

REAL_IMAGES: Final = 512
KERAS_BATCH: Final = 64
ROUNDING: Final = 1e-3
"""How far from 1 a row of probabilities may sum."""


@dataclass(frozen=True)
class ImageSet:
    """Pictures for the comparison.

    Args:
        name: What they are, for tables and the manifest.
        images: uint8, shape (N, 48, 48, 1), gray.
    """

    name: str
    images: Images


@dataclass(frozen=True)
class Parity:
    """One form in one runtime at one batch size beside Keras.

    Args:
        backend: ``onnx`` or ``openvino``.
        precision: Of the file, or ``bf16``.
        effective: What the runtime computed in.
        simulated: Whether the runtime stood in for the one that the file is for.
        runtime: The runtime's name and version.
        batch: Pictures per call.
        n: Pictures compared.
        max_abs_difference: Largest difference of any probability.
        mean_abs_difference: Mean difference of probabilities.
        agreement: Fraction with the same top-1.
        pictures: Name of the picture set.
    """

    backend: str
    precision: str
    effective: str
    simulated: bool
    runtime: str
    batch: int
    n: int
    max_abs_difference: float
    mean_abs_difference: float
    agreement: float
    pictures: str


def parity_images(dataset: Fer2013 | None) -> ImageSet:
    """Picks the pictures: the first of FER-2013's public test where the data is given, else the built-in set.

    Raises:
        DataError: The data set has no test pictures.
    """
    if dataset is None:
        images = probe_images()
        return ImageSet(f"built-in probe set, {len(images)} pictures", images)
    name = TEST if PUBLIC not in dataset.partitions and TEST in dataset.partitions else PUBLIC
    images = dataset.partition(name).images[:REAL_IMAGES, :, :, None]
    return ImageSet(f"FER-2013 {name}, {len(images)} pictures", np.ascontiguousarray(images))


def keras_predictions(bundle: Bundle, sets: Sequence[Images]) -> list[Probabilities]:
    """Runs the bundle's Keras model and checks that its answers are probabilities.

    Args:
        bundle: Which has the Keras file.
        sets: Pictures, each uint8 of shape (N, 48, 48, 1).

    Returns:
        float32, shape (N, 7), for each set.

    Raises:
        ModelError: Keras cannot run it, or what it gives are no probabilities.
    """
    try:
        with backend_class("keras")(bundle) as backend:
            predictions = [_run(backend, images, KERAS_BATCH) for images in sets]
    except BackendError as error:
        raise ModelError(f"Keras cannot run the model: {error}") from error
    check_probabilities(predictions)
    return predictions


def check_probabilities(predictions: Iterable[Probabilities]) -> None:
    """Refuses answers of a model, float32 of shape (N, 7) each, that are no probabilities.

    Raises:
        ModelError: They are none.
    """
    for probabilities in predictions:
        if not np.isfinite(probabilities).all():
            raise ModelError("The model gives values that are not finite: damaged weights, or training diverged")
        if (probabilities < 0).any() or np.abs(probabilities.sum(axis=1) - 1).max() > ROUNDING:
            raise ModelError(
                "The model's outputs are not probabilities (rows must sum to 1): end it with a softmax layer"
            )


def check_parity(bundle: Bundle, pictures: ImageSet, reference: Probabilities | None = None) -> tuple[Parity, ...]:
    """Runs each ONNX file of a bundle in the runtimes that it is for, and compares with Keras.

    All load the files from the bundle's folder as every later use does, on the CPU: OpenVINO always, ONNX Runtime
    where it is installed, bfloat16 where the CPU has it, int8-trt simulated in ONNX Runtime.

    Args:
        bundle: With a Keras file and any number of ONNX files.
        pictures: What to compare on.
        reference: Keras's answers to them, where they are known already.

    Returns:
        One entry per precision, runtime and batch size, all within the limits of their precision.

    Raises:
        ModelError: What Keras gives are no probabilities; or a runtime refuses a file, computes it in another
            precision, or differs from Keras by more than the limits allow.
    """
    if reference is None:
        (reference,) = keras_predictions(bundle, [pictures.images])
    results = []
    for precision, name in _variants(bundle):
        try:
            # one thread: speed does not matter here, and more of them spin where others want to work
            with backend_class(name)(bundle, precision, threads=1) as backend:
                results += [_compare(backend, batch, reference, pictures) for batch in BATCHES]
        except MissingDependencyError:
            if name != "onnx":  # ONNX Runtime is an extra, OpenVINO is always there
                raise
        except UnavailableError:
            if precision != "bf16":
                raise
        except BackendError as error:
            raise ModelError(f"The exported {precision} file does not run: {error}") from error
    return tuple(results)


def _variants(bundle: Bundle) -> Iterator[tuple[str, str]]:
    for precision, names in RUNTIMES.items():
        if bundle.find("onnx", "fp32" if precision == "bf16" else precision):
            yield from ((precision, name) for name in names)


def _run(backend: Backend, images: Images, batch: int) -> Probabilities:
    return np.concatenate([backend.run(images[i : i + batch]) for i in range(0, len(images), batch)])


def _compare(backend: Backend, batch: int, reference: Probabilities, pictures: ImageSet) -> Parity:
    """Runs all pictures at one batch size, or the first few one by one; raises ModelError where they differ."""
    n = min(SINGLES, len(reference)) if batch == 1 else len(reference)
    found = _run(backend, pictures.images[:n], batch)
    difference = np.abs(found - reference[:n])
    largest, mean = float(difference.max()), float(difference.mean())
    same = int((found.argmax(axis=1) == reference[:n].argmax(axis=1)).sum())
    limit = TOLERANCES[backend.precision].parity
    others = math.ceil((1 - limit.agreement) * n)
    if not (largest <= limit.largest and mean <= limit.mean and n - same <= others):  # so that NaN is refused
        raise ModelError(
            f"The exported {backend.precision} file does not compute what Keras computes: {backend.runtime} at batch "
            f"{batch} differs by {largest:.2g} (mean {mean:.2g}; allowed {limit.largest:g}, {limit.mean:g}) and has "
            f"{same / n:.2%} of the same top-1 (allowed {1 - others / n:.2%}) on {pictures.name}"
        )
    return Parity(
        backend=backend.name,
        precision=backend.precision,
        effective=backend.effective,
        simulated=backend.simulated,
        runtime=backend.runtime,
        batch=batch,
        n=n,
        max_abs_difference=largest,
        mean_abs_difference=mean,
        agreement=same / n,
        pictures=pictures.name,
    )
