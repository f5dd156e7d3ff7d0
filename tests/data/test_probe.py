"""The probe set is the same pictures everywhere, and worth comparing on."""

from __future__ import annotations

import hashlib

import numpy as np

from fer_deploy.data.probe import probe_images


def test_fits_the_contract() -> None:
    images = probe_images()
    assert images.shape == (111, 48, 48, 1)
    assert images.dtype == np.uint8


def test_is_the_same_everywhere() -> None:
    digest = hashlib.sha256(probe_images().tobytes()).hexdigest()
    assert digest == "5b0352571034d4d760bec442a083f100ce49ae4849e8202c9fdf526a402b5794"


def test_pictures_differ_and_use_the_whole_range() -> None:
    images = probe_images()
    assert len({image.tobytes() for image in images}) == len(images)
    assert (images.min(), images.max()) == (0, 255)
