"""The scenes that ``benchmarks/faces.py`` draws, and how it counts."""

from __future__ import annotations

import numpy as np
from faces import Row, matched, table
from pasting import HEIGHT, WIDTH, Kind, Pasted, paste, scenes

from fer_deploy.data.probe import probe_images

FACES = probe_images()[:5, ..., 0]


def test_each_face_is_pasted_once_and_whole_and_the_same_seed_gives_the_same() -> None:
    kind = Kind("some", sides=(40, 300))
    drawn = list(scenes(FACES, kind, most=3, seed=2))
    assert sorted(face.number for _, pasted in drawn for face in pasted) == list(range(len(FACES)))
    for image, pasted in drawn:
        assert (image.shape, image.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
        assert all(40 <= face.side <= 300 and abs(face.turn) <= 15 for face in pasted)
        assert all(face.side / 2 < face.x < WIDTH - face.side / 2 for face in pasted)
    again = list(scenes(FACES, kind, most=3, seed=2))
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(drawn, again, strict=True))


def test_a_pasted_face_lies_where_it_says() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    paste(image, FACES[0], Pasted(0, 100, 90, 48, 0), blend=0)
    inner = image[90 - 20 : 90 + 20, 100 - 20 : 100 + 20, 0]
    assert np.array_equal(inner, FACES[0][4:44, 4:44])
    assert not image[:60].any()


def test_a_box_counts_once_and_only_near_the_face_and_of_its_size() -> None:
    faces = [Pasted(0, 100, 100, 100, 0), Pasted(1, 400, 100, 100, 0)]
    on_first, too_small, far = (60, 55, 80, 95), (390, 90, 20, 20), (460, 100, 80, 95)
    assert matched(faces, [far, too_small, on_first]) == [2, None]
    assert matched([faces[0], faces[0]], [on_first]) == [0, None]


def test_the_table_tells_what_was_found() -> None:
    row = Row("some", "PublicTest", n=10, found=9, right=6, right_as_crop=7, photos=2, wrong=1, seconds=4)
    row.sizes = {"40+": [10, 9]}
    text = table([row])
    assert "| 90.0% |" in text
    assert "| 66.7 % | 77.8 % | -11.1 | 0.50 | 40+ 90.0% |" in text
    assert "0.5 photos/s" in text
