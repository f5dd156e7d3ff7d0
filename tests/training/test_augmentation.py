from __future__ import annotations

import numpy as np

from fer_deploy.training.augmentation import Augmentation, augment

NOTHING = Augmentation(flip=False, rotation=0.0, zoom=0.0, shift=0.0, contrast=0.0, brightness=0.0, erase=0.0)


def _pictures(n: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 48, 48)).astype(np.uint8)


def test_nothing_asked_for_changes_nothing() -> None:
    images = _pictures()
    out = augment(images, NOTHING, np.random.default_rng(0))
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out[..., 0], images)


def test_flipping_mirrors_about_half_of_the_pictures_exactly() -> None:
    images = _pictures(200)
    out = augment(images, Augmentation(True, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), np.random.default_rng(0))[..., 0]
    mirrored = (out == images[:, :, ::-1]).all(axis=(1, 2))
    kept = (out == images).all(axis=(1, 2))
    assert (mirrored | kept).all()
    assert 70 < mirrored.sum() < 130


def test_equal_seeds_give_equal_pictures_and_others_do_not() -> None:
    images = _pictures()
    first, again, other = (augment(images, Augmentation(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_shift_moves_the_picture_and_repeats_its_border() -> None:
    image = np.full((1, 48, 48), 7, np.uint8)
    out = augment(image, Augmentation(True, 14.0, 0.18, 0.5, 0.0, 0.0, 0.0), np.random.default_rng(3))
    np.testing.assert_array_equal(out, 7)


def test_erasing_puts_one_rectangle_of_the_right_size_into_every_picture() -> None:
    images = np.full((50, 48, 48), 255, np.uint8)
    settings = Augmentation(False, 0.0, 0.0, 0.0, 0.0, 0.0, erase=1.0, erase_size=(6, 20))
    out = augment(images, settings, np.random.default_rng(0))[..., 0]
    for picture in out:
        rows, columns = np.nonzero(picture != 255)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert 6 <= height <= 20
        assert 6 <= width <= 20
        assert len(rows) == height * width
