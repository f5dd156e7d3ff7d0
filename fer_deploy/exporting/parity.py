"""Proof that the written ONNX file computes what Keras computes: it is loaded, run and compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from fer_deploy.backends.base import Backend, Images, Probabilities
from fer_deploy.backends.registry import backend_class
from fer_deploy.bundle import Bundle
from fer_deploy.data.fer2013 import PUBLIC, TEST
from fer_deploy.errors import BackendError, MissingDependencyError, ModelError
from fer_deploy.evaluation.probe import probe_images

TOLERANCE: Final = 1e-5
"""Largest allowed difference of a probability. float32 sums in another order differ by 1e-7 to 1e-6."""

BATCHES: Final = (1, 37)
"""Two batch sizes, since a graph whose batch is not really free can pass at one; 37 fills no vector evenly."""

SINGLES: Final = 37
"""Pictures that are run one by one; all are run at the larger batch."""

REAL_PICTURES: Final = 512
KERAS_BATCH: Final = 64
ROUNDING: Final = 1e-3
"""How far from 1 a row of probabilities may sum."""


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


def check_parity(bundle: Bundle, pictures: PictureSet) -> tuple[Parity, ...]:
    """Runs a bundle's ONNX file in OpenVINO, and in ONNX Runtime where that is installed, and compares with Keras.

    All three load the files from the bundle's folder as every later use does, in float32 on the CPU.

    Returns:
        One entry per runtime and batch size, all within tolerance.

    Raises:
        ModelError: What Keras gives are no probabilities; or a runtime refuses the file, or differs by more than the
            tolerance or in a top-1.
    """
    reference = _keras_probabilities(bundle, pictures.images)
    results = []
    for name in ("onnx", "openvino"):
        try:
            # one thread: speed does not matter here, and more of them spin where others want to work
            with backend_class(name)(bundle, threads=1) as backend:
                results += [_compare(backend, batch, reference, pictures) for batch in BATCHES]
        except MissingDependencyError:
            if name != "onnx":  # ONNX Runtime is an extra, OpenVINO is always there
                raise
        except BackendError as error:
            raise ModelError(f"The exported file does not run: {error}") from error
    return tuple(results)


def _keras_probabilities(bundle: Bundle, images: Images) -> Probabilities:
    """Runs the bundle's Keras model and checks that its answers are probabilities; returns them, shape (N, 7)."""
    try:
        with backend_class("keras")(bundle) as backend:
            parts = [backend.run(images[i : i + KERAS_BATCH]) for i in range(0, len(images), KERAS_BATCH)]
    except BackendError as error:
        raise ModelError(f"Keras cannot run the model: {error}") from error
    probabilities = np.concatenate(parts)
    if not np.isfinite(probabilities).all():
        raise ModelError("The model gives values that are not finite: its weights are damaged, or training diverged")
    if (probabilities < 0).any() or np.abs(probabilities.sum(axis=1) - 1).max() > ROUNDING:
        raise ModelError("The model's outputs are not probabilities (rows must sum to 1): end it with a softmax layer")
    return probabilities


def _compare(backend: Backend, batch: int, reference: Probabilities, pictures: PictureSet) -> Parity:
    """Runs all pictures at one batch size, or the first few one by one; raises ModelError where they differ."""
    n = SINGLES if batch == 1 else len(reference)
    found = np.concatenate([backend.run(pictures.images[i : min(i + batch, n)]) for i in range(0, n, batch)])
    difference = float(np.abs(found - reference[:n]).max())
    agreement = float((found.argmax(axis=1) == reference[:n].argmax(axis=1)).mean())
    if not difference <= TOLERANCE or agreement < 1:  # "not <=", so that NaN is refused
        raise ModelError(
            f"The exported file does not compute what Keras computes: {backend.runtime} at batch {batch} differs by "
            f"{difference:.2g} (allowed {TOLERANCE:.0e}) and has {agreement:.2%} of the same top-1 on {pictures.name}"
        )
    return Parity(backend.name, backend.runtime, batch, n, difference, agreement, pictures.name)
