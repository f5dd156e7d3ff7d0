"""Photos that are drawn: real 48x48 faces pasted on generated backgrounds, so that where each face lies is known.

A background is a gradient between two colours, with noise of four grain sizes on it, and shapes over both. A face is
scaled (bicubic) and turned about its middle. FER-2013's faces are cut tightly and a detector expects the rest of a
head, so a pasted square would have an edge that no photo has. ``blend`` says what is done about it: the face is
continued outwards by its mirror image over that part of its side, and fades there into the background; 0 leaves the
hard edge, smoothed over a twentieth of the side inwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 1280, 960
BACKGROUNDS = 24
_GRAINS = (4, 16, 64, 256)
_HARD = 0.05
_TRIES = 300
_FACE = 48


@dataclass(frozen=True)
class Pasted:
    """A face in a scene: its number, its middle, the side of its 48x48 pixels there, and its turn in degrees."""

    number: int
    x: float
    y: float
    side: float
    turn: float


@dataclass(frozen=True)
class Kind:
    """What scenes are made of: sides in pixels, turns in degrees either way, and the blend (see above)."""

    name: str
    sides: tuple[float, float] = (40, 300)
    turns: tuple[float, float] = (0, 15)
    blend: float = 0.15


def scenes(faces: Any, kind: Kind, most: int = 12, seed: int = 0) -> Iterator[tuple[Any, list[Pasted]]]:
    """Draws scenes until each face was in one.

    Args:
        faces: uint8 (N, 48, 48).
        kind: Their sizes, turns and blend; sides are uniform in pixels.
        most: Faces in a scene; fewer where they find no room beside each other.
        seed: The same seed, the same scenes.

    Yields:
        uint8 (960, 1280, 3) as RGB, and what was pasted into it.
    """
    rng = np.random.default_rng(seed)
    todo = list(range(len(faces)))
    while todo:
        some, todo = todo[:most], todo[most:]
        image = _background(int(rng.integers(BACKGROUNDS)))[:: rng.choice((1, -1)), :: rng.choice((1, -1))].copy()
        pasted: list[Pasted] = []
        sides = np.sort(rng.uniform(*kind.sides, len(some)))[::-1]
        for number, side in zip(some, sides, strict=True):
            place = _room(rng, pasted, side, kind.blend)
            if place is None:
                todo.append(number)
                continue
            turn = float(rng.uniform(*kind.turns) * rng.choice((1, -1)))
            pasted.append(Pasted(number, *place, float(side), turn))
            paste(image, faces[number], pasted[-1], kind.blend)
        yield image, pasted


def paste(image: Any, face: Any, at: Pasted, blend: float) -> None:
    """Pastes one face into a picture, uint8 (H, W, 3), in place."""
    border = round(_FACE * blend)
    wide = np.pad(face, border, mode="reflect").astype(np.float32)
    size = len(wide)
    inwards = np.minimum(np.arange(size) + 0.5, size - np.arange(size) - 0.5)
    ramp = np.clip(inwards / (border or _FACE * _HARD), 0, 1)
    opaque = np.minimum.outer(ramp, ramp).astype(np.float32)
    reach = _reach(at.side, blend)
    left, upper, side = int(at.x - reach), int(at.y - reach), int(2 * reach) + 2
    angle, step = np.deg2rad(at.turn), _FACE / at.side
    c, s = np.cos(angle) * step, np.sin(angle) * step
    x, y = at.x - left, at.y - upper
    matrix = (c, s, size / 2 - c * x - s * y, -s, c, size / 2 + s * x - c * y)
    how = ((side, side), Image.Transform.AFFINE, matrix)
    pixels = np.asarray(Image.fromarray(wide).transform(*how, Image.Resampling.BICUBIC))[..., np.newaxis]
    mask = np.asarray(Image.fromarray(opaque).transform(*how, Image.Resampling.BILINEAR))[..., np.newaxis]
    rows, columns = slice(max(upper, 0), upper + side), slice(max(left, 0), left + side)
    below = image[rows, columns]
    here = slice(max(-upper, 0), max(-upper, 0) + below.shape[0]), slice(max(-left, 0), max(-left, 0) + below.shape[1])
    mixed = below * (1 - mask[here]) + np.clip(pixels[here], 0, 255) * mask[here]
    image[rows, columns] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _reach(side: float, blend: float) -> float:
    """From the middle to the corner of a pasted square, its border with it."""
    return side * (0.5 + blend) * 2**0.5 + 1


def _room(rng: np.random.Generator, pasted: list[Pasted], side: float, blend: float) -> tuple[float, float] | None:
    reach = _reach(side, blend)
    for _ in range(_TRIES):
        x, y = float(rng.uniform(reach, WIDTH - reach)), float(rng.uniform(reach, HEIGHT - reach))
        if all(np.hypot(x - p.x, y - p.y) > reach + _reach(p.side, blend) for p in pasted):
            return x, y
    return None


@lru_cache(maxsize=BACKGROUNDS)
def _background(number: int) -> Any:
    rng = np.random.default_rng((7, number))
    first, second = rng.integers(0, 256, (2, 3))
    direction = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    way = columns / WIDTH * np.cos(direction) + rows / HEIGHT * np.sin(direction)
    way = (way - way.min()) / np.ptp(way)
    canvas = first + (second - first) * way[..., np.newaxis]
    for grain in _GRAINS:
        strength = rng.uniform(0, 15)
        coarse = rng.normal(0, strength, (3, HEIGHT // grain + 2, WIDTH // grain + 2)).astype(np.float32)
        planes = [Image.fromarray(plane).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC) for plane in coarse]
        canvas = canvas + np.stack([np.asarray(plane) for plane in planes], axis=-1)
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    _shapes(rng, ImageDraw.Draw(image))
    return np.asarray(image)


def _shapes(rng: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    for _ in range(int(rng.integers(5, 25))):
        x, y, other_x, other_y = rng.uniform(0, 1, 4) * (WIDTH, HEIGHT, WIDTH, HEIGHT)
        wide, high = rng.uniform(20, 250), rng.uniform(20, 250)
        red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
        match int(rng.integers(3)):
            case 0:
                draw.ellipse((x, y, x + wide, y + high), (red, green, blue))
            case 1:
                draw.rectangle((x, y, x + wide, y + high), (red, green, blue))
            case _:
                draw.line((x, y, other_x, other_y), (red, green, blue), int(rng.integers(2, 20)))
