from __future__ import annotations

import numpy as np
import pytest

from fer_deploy.faces.face import Candidates, shared


def candidates(boxes: list[list[float]], scores: list[float]) -> Candidates:
    marks = np.tile(np.array(boxes, np.float32)[:, np.newaxis, :2], (1, 5, 1))
    return Candidates(np.array(boxes, np.float32), np.array(scores, np.float32), marks)


@pytest.mark.parametrize(
    ("other", "union", "smaller"),
    [
        ([0, 0, 10, 10], 1, 1),
        ([5, 0, 10, 10], 50 / 150, 0.5),
        ([10, 0, 5, 5], 0, 0),
        ([2, 2, 5, 5], 0.25, 1),
        ([0, 0, 0, 0], 0, 0),
    ],
)
def test_what_two_boxes_share(other: list[float], union: float, smaller: float) -> None:
    found = shared(np.array([0, 0, 10, 10], np.float32), np.array([other], np.float32))
    assert [part.tolist() for part in found] == [pytest.approx([union]), pytest.approx([smaller])]


def test_of_boxes_that_overlap_the_best_stays() -> None:
    found = candidates([[0, 0, 10, 10], [1, 0, 10, 10], [30, 30, 8, 8]], [0.5, 0.9, 0.7]).distinct()
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])
    assert found.boxes.tolist() == [[1, 0, 10, 10], [30, 30, 8, 8]]


def test_half_a_face_in_a_better_one_goes_only_if_wanted() -> None:
    found = candidates([[0, 0, 20, 20], [5, 5, 8, 8]], [0.9, 0.5])
    assert len(found.distinct()) == 2
    assert found.distinct(inside=0.7).boxes.tolist() == [[0, 0, 20, 20]]


def test_no_more_than_so_many_and_those_are_the_best() -> None:
    many = candidates([[20 * n, 0, 10, 10] for n in range(50)], list(np.linspace(0.1, 0.9, 50)))
    assert many.distinct(most=3).scores == pytest.approx(many.distinct().scores[:3])
    assert len(many.distinct(most=100)) == 50


def test_none_stay_none() -> None:
    none = candidates([[0, 0, 1, 1]], [0.5]).take([])
    assert len(none.distinct()) == 0
    assert none.moved(2).faces() == []


def test_boxes_and_landmarks_move_together() -> None:
    (face,) = candidates([[10, 20, 30, 40]], [0.5]).moved(2, left=1, upper=-5).faces()
    assert face.box == (21, 35, 60, 80)
    assert face.landmarks is not None
    assert face.landmarks.tolist() == [[21, 35]] * 5
