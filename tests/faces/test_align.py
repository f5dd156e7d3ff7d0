from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_deploy.data.probe import probe_images
from fer_deploy.faces.align import CROP_SETTINGS, CropSettings, crop_face, eyes_slope
from fer_deploy.faces.face import Face

WHOLE = CropSettings(margin=1, down=0, turn=1)


def face_at(box: tuple[float, float, float, float], degrees: float = 0.0) -> Face:
    x, y, width, height = box
    way = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))]) * width / 4
    middle = np.array([x + width / 2, y + height / 2])
    marks = np.stack([middle - way, middle + way, middle, middle, middle]).astype(np.float32)
    return Face(box, 0.9, marks)


@pytest.fixture(scope="module")
def known() -> Any:
    """A drawn face, uint8 (48, 48)."""
    return probe_images()[0, ..., 0]


def test_an_upright_face_of_48_pixels_comes_through_bit_for_bit(known: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 160), dtype=np.uint8)
    image[30:78, 50:98] = known
    cut = crop_face(image, face_at((50, 30, 48, 48)), WHOLE)
    assert (cut.shape, cut.dtype) == ((48, 48, 1), np.uint8)
    assert np.array_equal(cut[..., 0], known)


@pytest.mark.parametrize("side", [96, 480, 960])
def test_large_faces_are_reduced_without_aliasing(known: Any, side: int) -> None:
    large = np.asarray(Image.fromarray(known).resize((side, side), Image.Resampling.BICUBIC))
    image = np.pad(large, 40)
    cut = crop_face(image, face_at((40, 40, side, side)), WHOLE)[..., 0]
    plain = np.asarray(Image.fromarray(large).resize((48, 48), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(cut - plain)[2:-2, 2:-2].mean() < 2


@pytest.mark.parametrize("degrees", [-30, 15])
def test_a_turned_face_is_turned_back(known: Any, degrees: float) -> None:
    large = Image.fromarray(known).resize((192, 192), Image.Resampling.BICUBIC)
    canvas = Image.new("L", (400, 400))
    canvas.paste(large, (104, 104))
    image = np.asarray(canvas.rotate(-degrees, Image.Resampling.BICUBIC))  # Pillow turns against the clock
    upright, tilted = (
        crop_face(image, face_at((104, 104, 192, 192), degrees), CropSettings(1, 0, turn))[8:-8, 8:-8, 0]
        for turn in (1, 0)
    )
    plain = np.asarray(large.resize((48, 48), Image.Resampling.BICUBIC))[8:-8, 8:-8].astype(int)
    assert np.abs(upright - plain).mean() < 8
    assert np.abs(tilted - plain).mean() > 2 * np.abs(upright - plain).mean()


def test_down_goes_down_the_face() -> None:
    image = np.repeat(np.arange(200, dtype=np.uint8)[:, np.newaxis], 200, axis=1)
    box = (70.0, 70.0, 48.0, 48.0)
    lower = crop_face(image, face_at(box), CropSettings(1, 0.25, 1)).astype(int) - crop_face(image, face_at(box), WHOLE)
    assert lower.mean() == pytest.approx(12, abs=0.1)


def test_beyond_the_edge_the_outermost_pixels_go_on() -> None:
    image = np.full((60, 60), 200, np.uint8)
    assert np.unique(crop_face(image, face_at((-30, -30, 100, 120), 10), CROP_SETTINGS)).tolist() == [200]


def test_eyes_that_cannot_be_do_not_turn_the_picture() -> None:
    assert eyes_slope(face_at((0, 0, 10, 10), 30)) == pytest.approx(np.deg2rad(30), abs=1e-5)
    assert eyes_slope(face_at((0, 0, 10, 10), 100)) == 0
    assert eyes_slope(Face((0, 0, 10, 10), 0.5)) == 0


def test_tiny_boxes_do_no_harm() -> None:
    assert crop_face(np.zeros((5, 5), np.uint8), Face((2, 2, 0, 0), 0.5)).shape == (48, 48, 1)
