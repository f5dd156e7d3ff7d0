from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fer_deploy.errors import ModelError
from fer_deploy.faces.detector import TwoStageDetector
from fer_deploy.faces.networks import YuNet

YELLOW, RED, CYAN = (255, 255, 0), (255, 0, 0), (0, 255, 255)


def spots(stride: int, *places: tuple[int, int], colour: tuple[int, int, int] = YELLOW) -> np.ndarray:
    """A picture of 128x192 with spots of one place each, at rows and columns of such."""
    image = np.zeros((1, 128, 192, 3), np.uint8)
    for row, column in places:
        image[0, stride * row : stride * (row + 1), stride * column : stride * (column + 1)] = colour
    return image


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_grids_become_boxes_and_landmarks_in_pixels(yellow_grids: Callable[..., bytes], stride: int) -> None:
    network = YuNet(yellow_grids(alive=stride))
    (found,) = network.look(spots(stride, (1, 2), (3, 4)), 0.5)
    order = np.argsort(found.boxes[:, 0])
    expected = [[(x + 0.25) * stride - 8, (y + 0.5) * stride - 12, 16, 24] for y, x in ((1, 2), (3, 4))]
    assert found.boxes[order] == pytest.approx(np.array(expected, np.float32), rel=1e-2, abs=0.1)
    assert found.scores == pytest.approx([1, 1], abs=1e-2)
    marks = [[(2 + n) * stride, 2 * stride] for n in range(5)]
    assert found.landmarks[order[0]] == pytest.approx(np.array(marks, np.float32), rel=1e-2)


def test_the_score_is_the_geometric_mean_of_its_two(yellow_grids: Callable[..., bytes]) -> None:
    network = YuNet(yellow_grids(alive=8))
    (found,) = network.look(spots(8, (1, 2), colour=(255, 64, 0)), 0.1)
    assert found.scores == pytest.approx([0.5], abs=1e-2)
    assert len(network.look(spots(8, (1, 2), colour=RED), 0.1)[0]) == 0


def test_blue_comes_first(yellow_grids: Callable[..., bytes]) -> None:
    (found,) = YuNet(yellow_grids()).look(spots(8, (1, 2), colour=CYAN), 0.1)
    assert len(found) == 0


def test_several_pictures_at_once_though_the_file_says_one(yellow_grids: Callable[..., bytes]) -> None:
    network = YuNet(yellow_grids(alive=16))
    none, one, two = network.look(np.concatenate([spots(16), spots(16, (1, 2)), spots(16, (3, 4), (6, 0))]), 0.5)
    assert (len(none), len(one), len(two)) == (0, 1, 2)
    assert one.boxes[0, :2] == pytest.approx([2.25 * 16 - 8, 1.5 * 16 - 12], abs=0.2)


def test_two_looks_take_it_as_they_take_another(yellow_grids: Callable[..., bytes]) -> None:
    image = np.zeros((300, 400, 3), np.uint8)
    image[100:148, 200:248] = YELLOW
    (face, *_) = TwoStageDetector(YuNet(yellow_grids())).detect(image)
    x, y, width, height = face.box
    assert 190 < x + width / 2 < 258
    assert 90 < y + height / 2 < 158


def test_another_network_is_refused(yellow_grids: Callable[..., bytes], bright_spots: Callable[..., bytes]) -> None:
    with pytest.raises(ModelError, match=r"yunet\.onnx has 4 outputs; YuNet has 12 outputs \(cls_"):
        YuNet(bright_spots())
    with pytest.raises(ModelError, match=r"mine\.onnx has 12 outputs; YuNet has 12 outputs \(cls_"):
        YuNet(yellow_grids(names=("kps_64",)), what="mine.onnx")


def test_grids_of_another_kind_are_refused(yellow_grids: Callable[..., bytes]) -> None:
    network = YuNet(yellow_grids(strides=(4, 16, 32)))
    with pytest.raises(ModelError, match=r"yunet\.onnx gives \(1, 1536, 1\); YuNet gives \(1, 384, 1\)"):
        network.look(spots(8), 0.5)


def test_boxes_that_cannot_be_are_left_out(yellow_grids: Callable[..., bytes]) -> None:
    class Broken(YuNet):
        """Gives what a damaged file gives."""

        value = np.inf

        def look(self, *given: Any, **more: Any) -> Any:
            seen = super().look(*given, **more)
            for found in seen:
                found.boxes[:, 2:] = self.value
            return seen

    network = Broken(yellow_grids())
    image = spots(16, (1, 2), (4, 4))[0]
    for network.value in (np.inf, np.nan, 1e30):
        assert TwoStageDetector(network).detect(image) == []
    network.value = 40.0
    assert TwoStageDetector(network).detect(image)


def test_the_real_one_finds_the_face_and_its_landmarks(yunet: TwoStageDetector, astronaut: Any) -> None:
    (face,) = yunet.detect(astronaut)
    assert face.box == pytest.approx((180, 62, 90, 115), abs=15)
    left_eye, right_eye, nose, left_corner, right_corner = np.asarray(face.landmarks)
    assert left_eye == pytest.approx((201, 102), abs=8)
    assert right_eye == pytest.approx((246, 103), abs=8)
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_corner[0] < right_corner[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_corner[1], right_corner[1])
