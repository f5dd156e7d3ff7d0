from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_deploy.errors import OutputError, UsageError
from fer_deploy.inference.prediction import Prediction
from fer_deploy.reporting.annotate import COLOURS
from fer_deploy.video.timeline import CHARTS, MOST_POINTS, Timeline

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'fer-deploy[train]'")


def rows(label: int, track: int, count: int) -> list[Prediction]:
    chances = tuple(float(n == label) for n in range(7))
    return [Prediction("clip.mp4", "any", 1.0, chances, time_s=n / 2, frame=5 * n, track=track) for n in range(count)]


def colours(path: Path) -> set[tuple[int, ...]]:
    """Gives the emotions' colours that fill areas."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    large = {tuple(map(int, colour)) for colour, count in zip(found, counts, strict=True) if count > 5000}
    return large & set(COLOURS.values())


def test_a_chart_for_each_track_in_the_colours_of_its_emotions(tmp_path: Path) -> None:
    with Timeline(str(tmp_path / "x.png")) as timeline:
        for row in (*rows(3, 0, 20), *rows(4, 1, 10), Prediction("a.png", "happy", 1.0, (0.0,) * 7)):
            timeline.write(row)
    assert timeline.drawn
    assert colours(tmp_path / "x.png") == {COLOURS["happy"], COLOURS["sad"]}


def test_the_longest_tracks_are_drawn(tmp_path: Path) -> None:
    with Timeline(str(tmp_path / "x.png")) as timeline:
        for row in (*rows(0, CHARTS, 2), *(row for track in range(CHARTS) for row in rows(3, track, 5))):
            timeline.write(row)
    assert colours(tmp_path / "x.png") == {COLOURS["happy"]}


def test_without_a_track_there_is_no_file(tmp_path: Path) -> None:
    with Timeline(str(tmp_path / "x.png")) as timeline:
        for row in (Prediction.of_no_face("a.png"), *rows(3, 0, 1)):
            timeline.write(row)
    assert not timeline.drawn
    assert list(tmp_path.iterdir()) == []


def test_a_camera_of_days_takes_no_more_memory_than_a_chart_can_show(tmp_path: Path) -> None:
    timeline = Timeline(str(tmp_path / "x.png"))
    for row in rows(3, 0, 5 * MOST_POINTS):
        timeline.write(row)
    (track,) = timeline._tracks.values()
    times = [time_s for time_s, *_ in track.points]
    assert MOST_POINTS / 2 <= len(times) <= MOST_POINTS
    assert track.seen == 5 * MOST_POINTS
    distances = np.diff(times)
    assert times[0] == 0
    assert distances.min() == distances.max() == 4  # seconds: of eight pictures, one
    assert times[-1] >= 5 * MOST_POINTS / 2 - 4


def test_what_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must end in"):
        Timeline(str(tmp_path / "x.txt"))
    (tmp_path / "x.png").touch()
    with pytest.raises(OutputError, match="exists already"):
        Timeline(str(tmp_path / "x.png"))
