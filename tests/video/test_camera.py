"""A camera, stood in for by FFmpeg's own live sources, which give their pictures at the time of a clock."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.backends.base import Backend
from fer_deploy.errors import CameraError, OutputError, UsageError
from fer_deploy.inference.face_reader import DETECT, PhotoReader
from fer_deploy.inference.prediction import Prediction
from fer_deploy.video.camera import Camera, LiveReader
from fer_deploy.video.reader import FrameSampling, Video
from fer_deploy.video.writer import LiveRecording

from .conftest import Encode, Squares, moving

IMAGES = "testsrc=rate=30:size=320x240,realtime"
SQUARES = (
    "color=c=0x3c3c3c:size=320x240:rate=30,drawbox=x=20:y=60:w=40:h=40:color=red:t=fill,"
    "drawbox=x=200:y=60:w=40:h=40:color=blue:t=fill,realtime,format=yuv444p"
)
Live = Callable[[str], Camera]


@pytest.fixture
def live() -> Live:
    av: Any = pytest.importorskip("av", reason="PyAV is not installed: pip install 'fer-deploy[video]'")
    if "lavfi" not in av.formats_available:
        pytest.skip("this PyAV has no sources to test with (lavfi)")
    return lambda graph: Camera(av.open(graph, format="lavfi"), "camera 0")


def test_the_newest_picture_is_taken_and_none_is_queued(live: Live) -> None:
    numbers, ages = [], []
    with live(IMAGES) as camera:
        for frame in camera.frames():
            numbers.append(frame.number)
            ages.append(time.monotonic() - camera.came_s)
            assert camera._waiting.qsize() <= 1
            if len(numbers) == 5:
                break
            time.sleep(0.3)  # nine pictures pass
    assert numbers == sorted(set(numbers))
    assert numbers[-1] >= 16  # 4 if they were queued, about 36 as it should be
    assert camera.dropped >= numbers[-1] - 4
    assert sorted(ages)[2] < 0.3  # half of them at least are younger than a look takes


@pytest.mark.parametrize(("every", "least"), [("0.3s", 0.3), ("6f", None)])
def test_only_those_that_are_wanted(live: Live, every: str, least: float | None) -> None:
    with live(IMAGES) as camera:
        seen = [(frame.number, frame.time_s) for frame in camera.frames(FrameSampling.parse(every), seconds=1.2)]
    assert 2 <= len(seen) <= 8
    stretches = [time_s // least if least else number // 6 for number, time_s in seen]
    assert stretches == sorted(set(stretches))
    assert seen[0] == (0, 0.0)


def test_it_ends_after_its_time_when_stopped_and_by_itself(live: Live) -> None:
    with live(IMAGES) as camera:
        started = time.monotonic()
        assert sum(1 for _ in camera.frames(seconds=0.5)) > 1
        assert 0.4 < time.monotonic() - started < 3
        camera.stop()
        assert list(camera.frames()) == []
    assert not camera._thread.is_alive()
    with live("testsrc=rate=30:size=320x240:duration=0.5,realtime") as camera:
        assert 1 <= len(list(camera.frames())) <= 15
    assert camera.trouble is None


def test_each_pictures_faces_are_followed(live: Live, backend: Backend) -> None:
    with live(SQUARES) as camera:
        reader = LiveReader(camera, PhotoReader(DETECT, Squares()).live, smooth_s=0, seconds=1)
        groups = []
        for rows in reader.rows(backend):
            groups.append(rows)
            assert reader.last == rows
            assert reader.pixels.shape == (240, 320, 3)
            assert 0 < reader.age_s < 2
    assert len(groups) > 1
    for rows in groups:
        assert [(row.path, row.status, row.track) for row in rows] == [("camera 0", "ok", 0), ("camera 0", "ok", 1)]
        assert rows[0].box == pytest.approx((20, 60, 40, 40), abs=3)
    times = [rows[0].time_s or 0.0 for rows in groups]
    assert times[0] == 0
    assert times == sorted(times)


def test_a_picture_that_fails_is_told_in_the_end(live: Live, backend: Backend) -> None:
    class Failing(Squares):
        def detect(self, image: Any, hint: str = "") -> Any:
            raise MemoryError("no memory")

    with live(SQUARES) as camera:
        reader = LiveReader(camera, PhotoReader(DETECT, Failing()).live, "2f", seconds=0.4)
        rows = [row for group in reader.rows(backend) for row in group]
    assert [(row.status, row.path) for row in rows] == [("error", "camera 0")]
    assert "no memory" in rows[0].reason


def test_what_was_looked_at_is_recorded_with_its_boxes(live: Live, backend: Backend, tmp_path: Path) -> None:
    target, times = tmp_path / "new/x.mp4", []

    def record() -> None:
        with live(SQUARES) as camera:
            reader = LiveReader(camera, PhotoReader(DETECT, Squares()).live, "0.2s", seconds=1)
            with LiveRecording(str(target), reader) as recording:
                for row in (row for rows in reader.rows(backend) for row in rows):
                    recording.write(row)
                    times.append(row.time_s)
                recording.write(Prediction.failed("camera 0", "unplugged"))
                raise KeyboardInterrupt  # after which what was recorded is there all the same

    with pytest.raises(KeyboardInterrupt):
        record()
    with Video(str(target)) as video:
        shown = [(frame.time_s, frame.pixels()) for frame in video.frames()]
    assert [time_s for time_s, _ in shown] == pytest.approx(sorted(set(times)), abs=0.01)
    for _, pixels in shown:
        line = pixels[90, 100:].astype(int)  # right of the red square: the blue one, in a box that is not blue
        blue = np.nonzero(line[:, 2] - line[:, 0] > 90)[0]
        assert (100 + blue.min(), 100 + blue.max()) == pytest.approx((202, 237), abs=4)
    assert [path.name for path in target.parent.iterdir()] == ["x.mp4"]
    with live(SQUARES) as camera:
        reader = LiveReader(camera, Squares().detect)
        with LiveRecording(str(tmp_path / "new/none.mp4"), reader) as nothing:
            assert nothing.written == 0
        assert [path.name for path in target.parent.iterdir()] == ["x.mp4"]
        for name, error in (("x.mkv", UsageError), (str(target), OutputError)):
            with pytest.raises(error):
                LiveRecording(name, reader)


def test_a_stream_through_a_pipe(encode: Encode, backend: Backend, tmp_path: Path) -> None:
    import os
    from threading import Thread

    content = encode(tmp_path / "clip.ts", moving()).read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    Thread(target=pipe.write_bytes, args=(content,), daemon=True).start()
    with Camera.open(str(pipe)) as camera:
        rows = [row for group in LiveReader(camera, PhotoReader(DETECT, Squares()).live).rows(backend) for row in group]
    assert rows
    assert {(row.path, row.status) for row in rows} == {(str(pipe), "ok")}


@pytest.mark.parametrize(
    ("source", "error", "reported"),
    [
        ("97", CameraError, "no camera 97 here: there is no /dev/video97"),
        (97, CameraError, "no camera 97 here"),
        ("/dev/null", CameraError, "/dev/null is no camera that can be read"),
        ("/dev/no-such-thing", CameraError, "there is no /dev/no-such-thing"),
        ("tcp://me:secret@127.0.0.1:1/x", CameraError, r"^tcp://127\.0\.0\.1:1/x cannot be opened as a stream"),
        ("no-such-thing", CameraError, "no-such-thing cannot be opened as a stream: no such"),
        (__file__, UsageError, "is a file: give it without --camera"),
    ],
)
def test_what_cannot_be_opened_is_one_line(source: str | int, error: type[Exception], reported: str) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'fer-deploy[video]'")
    with pytest.raises(error, match=reported) as raised:
        Camera.open(source)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_stream_that_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'fer-deploy[video]'")
    monkeypatch.setattr("fer_deploy.video.camera._OPEN_S", 0.5)
    with pytest.raises(CameraError, match=r"24986 cannot be opened as a stream: nothing came for 0.5 s"):
        Camera.open("udp://127.0.0.1:24986")


@pytest.mark.parametrize(
    ("error", "reported"),
    [
        (PermissionError(13, "Permission denied"), "no right to open /dev/video0.*usermod"),
        (OSError(16, "Device or resource busy"), "in use by another program"),
        (ValueError("no container format 'v4l2'"), "this PyAV was built without cameras"),
    ],
)
def test_what_a_device_refuses_is_told(error: Exception, reported: str, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'fer-deploy[video]'")

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(CameraError, match=reported):
        Camera.open(0)


def test_without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    from fer_deploy.errors import MissingDependencyError

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'fer-deploy\[video\]'"):
        Camera.open(0)
