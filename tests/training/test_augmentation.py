from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fer_deploy.training.augmentation import Augmentation, augment, mix, scale

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


def test_reduced_images_lose_their_detail_and_keep_their_mean() -> None:
    images = _pictures(64)
    out = augment(images, replace(NOTHING, reduce=0.5), np.random.default_rng(0))[..., 0]
    changed = (out != images).any(axis=(1, 2))
    assert 16 < changed.sum() < 48
    assert (out[changed].std(axis=(1, 2)) < 0.7 * images[changed].std(axis=(1, 2))).all()
    np.testing.assert_allclose(out.mean(axis=(1, 2)), images.mean(axis=(1, 2)), atol=4)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_mixed_picture_has_as_much_of_a_second_label_as_of_its_picture(kind: str) -> None:
    levels = np.arange(7, dtype=np.float32)  # a picture's gray level is its label: a mean gray tells the shares
    images, labels = np.broadcast_to(levels[:, None, None, None], (7, 48, 48, 1)), np.eye(7, dtype=np.float32)
    mixed, shares = mix(images, labels, replace(NOTHING, **{kind: 1.0}), np.random.default_rng(0))
    np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)), shares @ levels, atol=1e-4)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    assert (np.diag(shares) >= 0.49).all()
    assert (np.count_nonzero(shares, axis=1) == 2).sum() >= 4
    assert all(len(np.unique(picture)) <= (2 if kind == "cutmix" else 1) for picture in mixed)


def test_about_as_many_are_mixed_as_asked_for() -> None:
    images = _pictures(400)[..., None].astype(np.float32)
    labels = np.eye(7, dtype=np.float32)[np.arange(400) % 7]
    mixed, _ = mix(images, labels, replace(NOTHING, mixup=0.25, cutmix=0.25), np.random.default_rng(0))
    changed = (mixed != images).mean(axis=(1, 2, 3))
    assert 60 < (changed > 0.9).sum() < 140  # mixup changes every pixel, CutMix at most half of them
    assert 60 < ((changed > 0) & (changed < 0.6)).sum() < 140


def test_without_mixing_nothing_is_drawn() -> None:
    images, random = _pictures()[..., None].astype(np.float32), np.random.default_rng(0)
    labels = np.eye(7, dtype=np.float32)[np.arange(len(images)) % 7]
    mixed, shares = mix(images, labels, NOTHING, random)
    assert mixed is images
    assert shares is labels
    assert random.random() == np.random.default_rng(0).random()


def test_a_scaled_picture_shows_the_same_in_fewer_pixels() -> None:
    ramp = np.broadcast_to(np.arange(48, dtype=np.float32)[:, None], (48, 48))
    images = np.stack([ramp, ramp.T, np.full_like(ramp, 300)])[..., None]
    scaled = scale(images, 36)
    assert (scaled.shape, scaled.dtype) == ((3, 36, 36, 1), np.float32)
    middles = (np.arange(36) + 0.5) * 48 / 36 - 0.5
    np.testing.assert_allclose(scaled[0, 2:-2, 7, 0], middles[2:-2], atol=0.2)
    np.testing.assert_allclose(scaled[1, 7, 2:-2, 0], middles[2:-2], atol=0.2)
    np.testing.assert_allclose(scaled[2], 300, atol=1e-3)  # not cut off at 255


def test_a_picture_of_the_right_size_stays_as_it_is() -> None:
    images = _pictures(2)[..., None].astype(np.float32)
    assert scale(images, 48) is images
