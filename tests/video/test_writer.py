from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_deploy.errors import OutputError, UsageError
from fer_deploy.inference.prediction import Prediction
from fer_deploy.video.reader import Video
from fer_deploy.video.writer import AnnotatedVideos

from .conftest import Encode, with_squares


def row(path: Path, frame: int, left: float) -> Prediction:
    chances = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    return Prediction(
        str(path), "happy", 1.0, chances, face=0, box=(left, 100, 60, 60), time_s=frame / 10, frame=frame, track=0
    )


@pytest.fixture
def clip(encode: Encode, tmp_path: Path) -> Path:
    return encode(tmp_path / "in/clip.mkv", [with_squares() for _ in range(20)])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()


def left_edges(path: Path) -> list[int]:
    """Finds the box's left line in each picture: it is the only thing that is not gray in this row."""
    edges = []
    with Video(str(path)) as video:
        for frame in video.frames():
            line = frame.pixels()[130].astype(int)
            edges.append(int(np.nonzero(line[:, 0] - line[:, 2] > 60)[0].min()))
        assert video.trouble is None
    return edges


def test_boxes_move_between_the_pictures_that_were_looked_at(clip: Path, tmp_path: Path) -> None:
    with AnnotatedVideos(str(tmp_path / "out.mp4"), [str(clip)]) as copies:
        for frame in (0, 10):
            copies.write(row(clip, frame, 50 + 10 * frame))
    assert copies.written == 1
    expected = [50 + 10 * n for n in range(10)] + [150] * 10
    assert left_edges(tmp_path / "out.mp4") == pytest.approx(expected, abs=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.mp4"]


def test_into_a_folder_below_their_names(clip: Path, tmp_path: Path) -> None:
    second = clip.with_name("b.mp4")
    second.write_bytes(clip.read_bytes())
    with AnnotatedVideos(str(tmp_path / "out"), [str(clip.parent)]) as copies:
        copies.write(row(second, 0, 50))
        copies.write(row(clip, 0, 90))
        copies.write(row(clip, 5, 90))
        copies.write(Prediction.failed(str(clip), "truncated"))
        copies.write(Prediction.of("a.png", np.eye(7, dtype=np.float32)[0]))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.mp4", "clip.mkv.mp4"]
    assert left_edges(tmp_path / "out/b.mp4") == pytest.approx([50] * 20, abs=3)
    assert left_edges(tmp_path / "out/clip.mkv.mp4") == pytest.approx([90] * 20, abs=3)


def test_an_interrupted_one_leaves_nothing(clip: Path, tmp_path: Path) -> None:
    def interrupted() -> None:
        with AnnotatedVideos(str(tmp_path / "out.mp4"), [str(clip)]) as copies:
            for frame in (0, 5, 10):
                copies.write(row(clip, frame, 50))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_does_not_go_is_refused(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes a single video"):
        AnnotatedVideos(str(tmp_path / "out.mp4"), [str(clip), str(clip)])
    (tmp_path / "out.mp4").touch()
    with pytest.raises(OutputError, match="exists already"):
        AnnotatedVideos(str(tmp_path / "out.mp4"), [str(clip)])
