from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_deploy.errors import ImageError
from fer_deploy.faces.detector import TwoStageDetector
from fer_deploy.faces.face import Face, shared
from fer_deploy.faces.networks import CenterFace

FACE = (180, 62, 90, 115)


def overlap(found: Face, box: Any) -> float:
    return float(shared(np.array(found.box, np.float32), np.array([box], np.float32))[0][0])


def scaled(image: Any, scale: float) -> Any:
    side = round(512 * scale)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def test_finds_the_face_and_nothing_else(detector: TwoStageDetector, astronaut: Any) -> None:
    (face,) = detector.detect(astronaut)
    assert overlap(face, FACE) > 0.7
    assert face.score > 0.5
    left_eye, right_eye, nose, left_corner, right_corner = np.asarray(face.landmarks)
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_corner[0] < right_corner[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_corner[1], right_corner[1])


@pytest.mark.parametrize("scale", [0.22, 0.5, 2.0, 6.0])  # the face is 20 to 540 pixels wide
def test_small_and_huge_faces_in_their_own_pixels(detector: TwoStageDetector, astronaut: Any, scale: float) -> None:
    face, *others = detector.detect(scaled(astronaut, scale))
    assert overlap(face, [value * scale for value in FACE]) > 0.6
    assert len(others) <= (scale == 6.0)  # in float32 something on the suit is then faintly like a face
    assert all(other.score < 0.3 for other in others)


def test_a_face_that_fills_the_picture(detector: TwoStageDetector, astronaut: Any) -> None:
    (face,) = detector.detect(np.ascontiguousarray(astronaut[50:190, 155:295]))
    assert overlap(face, (25, 12, 90, 115)) > 0.6


def test_several_faces_the_surest_first(detector: TwoStageDetector, astronaut: Any) -> None:
    faces = detector.detect(np.concatenate([astronaut, scaled(astronaut, 0.5).repeat(2, axis=0)[:, ::-1]], axis=1))
    assert len(faces) == 2
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)


def test_gray_and_a_turned_head(detector: TwoStageDetector, astronaut: Any) -> None:
    gray = Image.fromarray(astronaut).convert("L")
    (face,) = detector.detect(np.asarray(gray))
    assert overlap(face, FACE) > 0.7
    assert len(detector.detect(np.asarray(gray.rotate(20)))) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (7, 40), (300, 200)])
def test_no_face_is_an_empty_list(detector: TwoStageDetector, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert detector.detect(noise) == []


def test_what_is_smaller_than_was_looked_for_is_left_out(bright_spots: Callable[..., bytes]) -> None:
    image = np.zeros((320, 320, 3), np.uint8)
    image[100:148, 100:148, 0] = 255
    network = CenterFace(bright_spots())
    sizes = [max(face.box[2:]) for face in TwoStageDetector(network, smallest=12).detect(image)]
    assert min(sizes) < 100
    assert all(
        max(face.box[2:]) >= 0.7 * 160 for face in TwoStageDetector(network, smallest=160, threshold=0.01).detect(image)
    )


def test_threads_get_the_same_answers(detector: TwoStageDetector, astronaut: Any) -> None:
    (alone,) = detector.detect(astronaut)
    found: list[Face] = []
    threads = [Thread(target=lambda: found.extend(detector.detect(astronaut))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [face.box for face in found] == [pytest.approx(alone.box, abs=0.5)] * 4


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_what_is_no_picture_is_refused(bright_spots: Callable[..., bytes], image: Any) -> None:
    with pytest.raises(ImageError, match=r"faces are looked for in uint8 \(H, W, 3\) or \(H, W\)"):
        TwoStageDetector(CenterFace(bright_spots())).detect(image)


def test_the_smallest_face_decides_how_far_a_picture_is_reduced(bright_spots: Callable[..., bytes]) -> None:
    image = Image.new("RGB", (640, 480))
    image.paste((255, 0, 0), (300, 200, 348, 248))
    network = CenterFace(bright_spots())
    scores = [TwoStageDetector(network, smallest).first_look(image).scores.max() for smallest in (20, 192)]
    assert scores[0] == pytest.approx(1, abs=0.02)  # reduced to 0.6 the spot still fills 4x4 pixels
    assert scores[1] < 0.95  # at a sixteenth it does not
    (wide,) = TwoStageDetector(network, 20).first_look(image).boxes[:1]
    assert wide[2:] == pytest.approx([16 / 0.6, 24 / 0.6], rel=0.02)
