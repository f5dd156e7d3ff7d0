"""Random changes to training pictures; outside the exported model, and reproducible from one random generator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fer_deploy.labels import IMAGE_SIZE

PAD = IMAGE_SIZE // 3
"""Pixels of repeated border around a picture, so that turned and shifted ones have no black corners."""
REDUCED_SIZE = (12, 40)
"""Smallest and largest side of a reduced image, in pixels."""


@dataclass(frozen=True)
class Augmentation:
    """How strongly training pictures are changed; every value is drawn evenly from its range.

    Args:
        flip: Mirror half of the pictures.
        rotation: Largest turn, in degrees.
        zoom: Largest change of scale, as a fraction.
        shift: Largest shift, as a fraction of half the picture's width.
        contrast: Largest change of contrast about mid-gray, as a fraction.
        brightness: Largest change of brightness, in gray levels.
        erase: Share of pictures in which one rectangle is replaced by a random gray.
        erase_size: Smallest and largest side of that rectangle, in pixels.
        mixup: Share of pictures that are blended with another of their batch (Zhang et al. 2018, "mixup").
        cutmix: Share of pictures in which one rectangle is replaced by another picture's (Yun et al. 2019, "CutMix").
        reduce: Share of images that are scaled down to 12 to 40 pixels and back up, as small faces in photos are.
    """

    flip: bool = True
    rotation: float = 14.0
    zoom: float = 0.18
    shift: float = 0.17
    contrast: float = 0.3
    brightness: float = 32.0
    erase: float = 0.4
    erase_size: tuple[int, int] = (6, 20)
    mixup: float = 0.0
    cutmix: float = 0.0
    reduce: float = 0.0


def augment(images: NDArray[np.uint8], settings: Augmentation, random: np.random.Generator) -> NDArray[np.float32]:
    """Changes each picture of a batch in its own way.

    Args:
        images: uint8, shape (N, 48, 48), gray, 0..255.
        settings: How strongly.
        random: Where all randomness comes from.

    Returns:
        float32, shape (N, 48, 48, 1), about 0..255 (contrast and brightness may lead a little beyond).
    """
    n = len(images)
    padded = np.pad(images, ((0, 0), (PAD, PAD), (PAD, PAD)), mode="edge")  # (N, 80, 80)
    out = np.empty((n, IMAGE_SIZE, IMAGE_SIZE), np.float32)
    for i, coefficients in enumerate(_affine_coefficients(n, settings, random)):
        picture = Image.fromarray(padded[i])
        warped = picture.transform(
            (IMAGE_SIZE, IMAGE_SIZE), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
        )
        out[i] = np.asarray(warped)
    if settings.reduce:
        _reduce(out, settings, random)
    contrast = 1 + random.uniform(-settings.contrast, settings.contrast, (n, 1, 1))
    brightness = random.uniform(-settings.brightness, settings.brightness, (n, 1, 1))
    out = ((out - 128) * contrast + 128 + brightness).astype(np.float32)
    _erase(out, settings, random)
    return out[..., np.newaxis]


def _affine_coefficients(
    n: int, settings: Augmentation, random: np.random.Generator
) -> list[tuple[float, float, float, float, float, float]]:
    """Draws Pillow's output-to-input coefficients about the centre of the padded picture."""
    angle = np.deg2rad(random.uniform(-settings.rotation, settings.rotation, n))
    scale = 1 + random.uniform(-settings.zoom, settings.zoom, n)
    reach = settings.shift * IMAGE_SIZE / 2
    shift = random.uniform(-reach, reach, (n, 2))
    mirror = np.where(random.random(n) < 0.5, -1.0, 1.0) if settings.flip else np.ones(n)
    half = IMAGE_SIZE / 2
    coefficients = []
    for t, s, (dx, dy), m in zip(angle, scale, shift, mirror, strict=True):
        a, b, d, e = m * s * math.cos(t), -s * math.sin(t), m * s * math.sin(t), s * math.cos(t)
        c = half + PAD + dx - (a + b) * half
        f = half + PAD + dy - (d + e) * half
        coefficients.append((a, b, c, d, e, f))
    return coefficients


def _reduce(images: NDArray[np.float32], settings: Augmentation, random: np.random.Generator) -> None:
    smallest, largest = REDUCED_SIZE
    for i in np.flatnonzero(random.random(len(images)) < settings.reduce):
        side = int(random.integers(smallest, largest, endpoint=True))
        small = Image.fromarray(images[i]).resize((side, side), Image.Resampling.BOX)
        images[i] = np.asarray(small.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))


def _erase(images: NDArray[np.float32], settings: Augmentation, random: np.random.Generator) -> None:
    smallest, largest = settings.erase_size
    for i in np.flatnonzero(random.random(len(images)) < settings.erase):
        height, width = random.integers(smallest, largest, 2, endpoint=True)
        top = random.integers(0, IMAGE_SIZE - height, endpoint=True)
        left = random.integers(0, IMAGE_SIZE - width, endpoint=True)
        images[i, top : top + height, left : left + width] = random.uniform(0, 255)


def mix(
    images: NDArray[np.float32], labels: NDArray[np.float32], settings: Augmentation, random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Puts a second picture of the batch into some pictures, never more than half of it, and its label as much.

    How much is drawn evenly from 0 to 0.5: the order of the two aside, a draw from Beta(1, 1).

    Args:
        images: float32, shape (N, 48, 48, 1), about 0..255.
        labels: float32, shape (N, 7), rows sum to 1.
        settings: How often.
        random: Where all randomness comes from.

    Returns:
        Pictures and labels of the same shapes; with neither mixup nor cutmix the given ones, and nothing is drawn.
    """
    if not settings.mixup and not settings.cutmix:
        return images, labels
    n = len(images)
    partner = random.permutation(n)
    share = random.uniform(0, 0.5, n)
    kind = random.random(n)
    masks = np.zeros(images.shape, np.float32)
    for i in np.flatnonzero(kind < settings.mixup + settings.cutmix):
        if kind[i] < settings.mixup:
            masks[i] = share[i]
        else:
            side = max(1, round(IMAGE_SIZE * math.sqrt(share[i])))
            top, left = random.integers(0, IMAGE_SIZE - side, 2, endpoint=True)
            masks[i, top : top + side, left : left + side] = 1
    taken = masks.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32)[:, np.newaxis]
    return images + masks * (images[partner] - images), labels + taken * (labels[partner] - labels)


def scale(images: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Scales pictures to a smaller size; each new pixel is a weighted mean of all that it stands for.

    Args:
        images: float32, shape (N, H, W, 1).
        size: Height and width to come.

    Returns:
        float32, shape (N, size, size, 1); the given pictures if they have that size.
    """
    if images.shape[1:3] == (size, size):
        return images
    scaled = [Image.fromarray(image[..., 0]).resize((size, size), Image.Resampling.BILINEAR) for image in images]
    return np.stack([np.asarray(image, np.float32) for image in scaled])[..., np.newaxis]
