"""A built-in set of pictures for parity checks where no data set is at hand: drawn faces, textures and noise.

It says whether two forms of a model compute the same, not how good the model is. Equal on every machine: only
integer noise, arithmetic and comparisons, no library's drawing code.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.labels import IMAGE_SIZE, INPUT_SHAPE

Images = NDArray[np.uint8]
Plane = NDArray[np.float64]

FACES: Final = 64
TEXTURES: Final = 24
NOISE: Final = 20
LEVELS: Final = (0.0, 128.0, 255.0)
IMAGES: Final = FACES + TEXTURES + NOISE + len(LEVELS)
SEED: Final = 2013


def probe_images() -> Images:
    """Makes the probe set.

    Returns:
        uint8, shape (111, 48, 48, 1), gray: 64 drawn faces of different brightness, place and mouth, 24 gratings and
        gradients, 20 of noise, and a black, a gray and a white one. 111 is three batches of 37.
    """
    rng = np.random.default_rng(SEED)
    y, x = (axis.astype(np.float64) for axis in np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE])
    planes = [_face(rng, y, x) for _ in range(FACES)]
    planes += [_texture(rng, y, x) for _ in range(TEXTURES)]
    planes += [_noise(rng, coarse=1 + n % 4) for n in range(NOISE)]
    planes += [np.full((IMAGE_SIZE, IMAGE_SIZE), level) for level in LEVELS]
    return np.clip(np.rint(planes), 0, 255).astype(np.uint8).reshape(-1, *INPUT_SHAPE)


def _face(rng: np.random.Generator, y: Plane, x: Plane) -> Plane:
    """Draws an oval with eyes, brows and a mouth that smiles or frowns, on a shaded ground, slightly grainy."""
    reference, skin, dark = rng.integers(20, 110), rng.integers(120, 240), rng.integers(0, 70)
    cy, cx = 24 + rng.integers(-3, 4), 24 + rng.integers(-3, 4)
    height, width = rng.integers(17, 23), rng.integers(13, 18)
    image = reference + (x + y) * rng.integers(-5, 6) / 10
    image[((y - cy) / height) ** 2 + ((x - cx) / width) ** 2 <= 1] = skin
    eye, brow = rng.integers(1, 4), rng.integers(5, 8)
    for side in (-1, 1):
        ex, ey = cx + side * width * 0.4, cy - height * 0.25
        image[((y - ey) / eye) ** 2 + ((x - ex) / 3) ** 2 <= 1] = dark
        slope = rng.integers(-3, 4) / 10
        image[(np.abs(y - ey + brow + side * slope * (x - ex)) <= 1) & (np.abs(x - ex) <= 4)] = dark
    bend, spread = rng.integers(-8, 9) / 100, width * 0.5
    mouth = cy + height * 0.5 - bend * (x - cx) ** 2
    image[(np.abs(y - mouth) <= rng.integers(1, 4)) & (np.abs(x - cx) <= spread)] = dark
    return image + rng.integers(-12, 13, image.shape)


def _texture(rng: np.random.Generator, y: Plane, x: Plane) -> Plane:
    """Makes stripes, checks or a gradient; triangle waves instead of sines, which libraries round differently."""
    along = rng.integers(-4, 5) * x + rng.integers(-4, 5) * y
    period = int(rng.integers(8, 64))
    wave = np.abs(along % period - period / 2) / (period / 2)  # 0..1
    return rng.integers(0, 100) + rng.integers(50, 156) * (wave if rng.integers(2) else wave.round())


def _noise(rng: np.random.Generator, coarse: int) -> Plane:
    """Makes noise in squares of ``coarse`` pixels."""
    cells = rng.integers(0, 256, (IMAGE_SIZE // coarse + 1,) * 2)
    return cells.repeat(coarse, axis=0).repeat(coarse, axis=1)[:IMAGE_SIZE, :IMAGE_SIZE].astype(np.float64)
