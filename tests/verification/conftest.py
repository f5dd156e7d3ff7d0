"""Labelled pictures for the tiny model, and a bundle of it that holds Keras's answers to them."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from fer_deploy.backends.registry import backend_class
from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.bundle.reference_predictions import RecordedPartition, fingerprint, write_outputs
from fer_deploy.data.fer2013 import Partition
from fer_deploy.data.probe import probe_images
from fer_deploy.verification.reference import run_all

WRONG = 20


@pytest.fixture(scope="session")
def tiny_predictions(tiny_bundle: Bundle) -> np.ndarray:
    """Keras's answers to the probe set, shape (111, 7)."""
    with backend_class("keras")(tiny_bundle) as backend:
        return run_all(backend, probe_images())


@pytest.fixture(scope="session")
def tiny_partition(tiny_predictions: np.ndarray) -> Partition:
    """The probe set, labelled so that Keras is right on all but the first 20."""
    labels = tiny_predictions.argmax(axis=1).astype(np.uint8)
    labels[:WRONG] = (labels[:WRONG] + 1) % 7
    names = tuple(f"PrivateTest_{index:05}" for index in range(len(labels)))
    return Partition(probe_images()[..., 0], labels, names)


@pytest.fixture(scope="session")
def recorded_bundle(
    tiny_bundle: Bundle,
    tiny_predictions: np.ndarray,
    tiny_partition: Partition,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    """The tiny bundle with Keras's answers and a target; its fp32 file stands for fp16 too."""
    folder = tmp_path_factory.mktemp("recorded") / "bundle"
    shutil.copytree(tiny_bundle.path, folder)
    part = RecordedPartition(fingerprint(tiny_partition.images), tiny_predictions)
    file = write_outputs(folder, probe=tiny_predictions, partitions={"PrivateTest": part})
    shutil.copy(folder / "model.onnx", folder / "model.fp16.onnx")
    added = (
        describe_file(folder, file, "outputs", "fp32", {}),
        describe_file(folder, "model.fp16.onnx", "onnx", "fp16", {}),
    )
    kept = tuple(a for a in tiny_bundle.artefacts if (a.format, a.precision) in {("keras", "fp32"), ("onnx", "fp32")})
    bundle = dataclasses.replace(tiny_bundle, path=folder, artefacts=(*kept, *added), target_accuracy=0.8)
    bundle.save()
    return bundle
