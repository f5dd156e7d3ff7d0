from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_deploy.backends.base import Backend
from fer_deploy.errors import UsageError
from fer_deploy.faces.detector import Detector
from fer_deploy.images.decode import from_array
from fer_deploy.images.sources import Readers, Sources
from fer_deploy.inference.face_reader import DETECT, PhotoReader
from fer_deploy.inference.pipeline import classify
from fer_deploy.inference.prediction import Prediction
from fer_deploy.video.clips import ClipReader

from .conftest import Encode, Squares, moving, with_squares

RED, BLUE = (220, 30, 30), (30, 30, 220)


def rows_of(path: Path, backend: Backend, every: str = "0.5s", smooth_s: float = 0.0) -> list[Prediction]:
    reader = ClipReader(PhotoReader(DETECT, Squares()).array, every, smooth_s)
    return [row for rows in reader.rows(str(path), backend) for row in rows]


def test_a_row_for_each_face_and_each_picture_without(encode: Encode, backend: Backend, tmp_path: Path) -> None:
    images = [with_squares((20 + 4 * n, 60, RED)) if n < 5 else with_squares() for n in range(20)]
    rows = rows_of(encode(tmp_path / "clip.mp4", images), backend, every="3")
    assert [(row.frame, row.status, row.track) for row in rows] == [
        *((0, "ok", 0), (3, "ok", 0)),
        *((number, "no-face", None) for number in (6, 9, 12, 15, 18)),
    ]
    assert [row.time_s for row in rows] == pytest.approx([0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8])
    assert {row.path for row in rows} == {str(tmp_path / "clip.mp4")}
    assert rows[1].box == pytest.approx((32, 60, 40, 40), abs=3)
    assert (rows[0].face, rows[0].face_score, rows[2].face, rows[2].emotion) == (0, 0.9, None, None)


def test_faces_that_cross_keep_their_tracks(encode: Encode, backend: Backend, tmp_path: Path) -> None:
    images = [with_squares((20 + 10 * n, 50, RED), (220 - 10 * n, 95, BLUE)) for n in range(20)]
    rows = rows_of(encode(tmp_path / "clip.mp4", images), backend, every="1")
    assert len(rows) == 40
    tracks = {(row.track, (row.box or (0, 0))[1] > 75) for row in rows}
    assert tracks == {(0, False), (1, True)}
    assert [row.time_s for row in rows] == sorted(row.time_s or 0 for row in rows)


def test_probabilities_are_smoothed_in_time(encode: Encode, backend: Backend, tmp_path: Path) -> None:
    images = [np.full((240, 240, 3), 255 if n < 5 else 0, np.uint8) for n in range(11)]  # taken as faces as a whole
    path = encode(tmp_path / "clip.mkv", images)

    def happy(smooth_s: float) -> list[float]:
        reader = ClipReader(from_array, "5f", smooth_s)
        rows = [row for rows in reader.rows(str(path), backend) for row in rows]
        assert [(row.track, row.face, row.box) for row in rows] == [(0, None, None)] * 3
        assert [row.emotion for row in rows] == ["happy" if row.probabilities[3] > 0.5 else "angry" for row in rows]
        assert [row.confidence for row in rows] == [max(row.probabilities) for row in rows]
        return [row.probabilities[3] for row in rows]

    assert happy(0) == pytest.approx([1, 0, 0], abs=0.02)
    assert happy(1) == pytest.approx([1, 0.6065, 0.3679], abs=0.02)  # exp(-0.5), exp(-1)
    assert happy(0.5) == pytest.approx([1, 0.3679, 0.1353], abs=0.02)


def test_a_broken_one_keeps_its_rows_and_ends_with_one_that_says_why(
    encode: Encode, backend: Backend, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (240, 320, 3), dtype=np.uint8) for _ in range(20)]
    path = encode(tmp_path / "clip.mkv", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    *good, last = rows_of(path, backend, every="1")
    assert 7 <= len({row.frame for row in good}) <= 11
    assert all(row.frame is not None and row.status != "error" for row in good)
    assert (last.status, last.path, last.frame, last.face) == ("error", str(path), None, None)
    assert last.reason


def test_a_picture_that_fails_costs_itself_only(encode: Encode, backend: Backend, tmp_path: Path) -> None:
    class Failing(Squares):
        def detect(self, image: Any, hint: str = "") -> Any:
            faces = super().detect(image)
            if faces[0].box[0] > 60:
                raise MemoryError("no memory")
            return faces

    reader = ClipReader(PhotoReader(DETECT, Failing()).array, "5f", 0)
    path = encode(tmp_path / "clip.mp4", moving())
    *good, last = (row for rows in reader.rows(str(path), backend) for row in rows)
    assert [row.frame for row in good] == [0, 5, 10]
    assert last.status == "error"
    assert "picture 15 at 1.5 s" in last.reason


def test_boxes_are_those_of_the_video_where_pictures_are_reduced(
    encode: Encode, backend: Backend, tmp_path: Path
) -> None:
    image = np.zeros((480, 3840, 3), np.uint8)
    image[100:300, 2000:2200] = RED
    (row,) = rows_of(encode(tmp_path / "clip.mp4", [image], preset="ultrafast"), backend)
    assert row.box == pytest.approx((2000, 100, 200, 200), abs=6)


def test_clips_and_pictures_come_in_their_order(encode: Encode, backend: Backend, tmp_path: Path) -> None:
    for name, value in (("a", 10), ("c", 200), ("e", 90)):
        Image.fromarray(np.full((48, 48), value, np.uint8)).save(tmp_path / f"{name}.png")
    encode(tmp_path / "b.mp4", moving())
    (tmp_path / "d.mkv").write_text("no video")
    reader = PhotoReader("auto", Squares())
    clips = ClipReader(reader.array, "1s", 0)
    sources = Sources([tmp_path], Readers(reader.file, reader.array, clips.rows))
    rows = [row for group in classify(sources, backend, 2) for row in group]
    assert [(Path(row.path).name, row.status, row.frame) for row in rows] == [
        *(("a.png", "ok", None), ("b.mp4", "ok", 0), ("b.mp4", "ok", 10)),
        *(("c.png", "ok", None), ("d.mkv", "error", None), ("e.png", "ok", None)),
    ]
    assert sources.found == 5
    assert clips.path is None


def test_without_pyav_a_row_says_what_installs_it(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (row,) = rows_of(tmp_path / "clip.mp4", backend)
    assert row.status == "error"
    assert row.reason.endswith("pip install 'fer-deploy[video]'")


def test_settings_that_make_no_sense_are_told_at_once() -> None:
    with pytest.raises(UsageError, match="is no distance"):
        ClipReader(from_array, "never")
    with pytest.raises(UsageError, match="is no time"):
        ClipReader(from_array, smooth_s=-1)


def test_a_real_face_is_followed(
    encode: Encode, backend: Backend, tmp_path: Path, detector: Detector, astronaut: Any
) -> None:
    images = [astronaut[:256, 60 + 5 * n : 60 + 5 * n + 320] for n in range(12)]
    path = encode(tmp_path / "clip.mp4", images)
    reader = ClipReader(PhotoReader(DETECT, detector).array, "4f")
    rows = [row for rows in reader.rows(str(path), backend) for row in rows]
    surest = [row for row in rows if row.face == 0]
    assert [(row.frame, row.track) for row in surest] == [(0, 0), (4, 0), (8, 0)]
    lefts = [row.box[0] for row in surest if row.box]
    assert lefts == pytest.approx([120, 100, 80], abs=12)
