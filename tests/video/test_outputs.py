"""What becomes of a video's rows: tables, small pictures on the page, also where the video lies in an archive."""

from __future__ import annotations

import base64
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_deploy.backends.base import Backend
from fer_deploy.errors import UsageError
from fer_deploy.images import archive
from fer_deploy.images.sources import Readers, Sources
from fer_deploy.inference.face_reader import DETECT, PhotoReader
from fer_deploy.inference.pipeline import classify
from fer_deploy.inference.prediction import Prediction
from fer_deploy.inference.run import Summary, run
from fer_deploy.inference.sinks.text import table_sink
from fer_deploy.reporting.gallery import Gallery
from fer_deploy.video.clips import ClipReader
from fer_deploy.video.reader import Video
from fer_deploy.video.writer import AnnotatedVideos

from .conftest import Encode, Squares, moving, with_squares

RED, BLUE = (220, 30, 30), (30, 30, 220)


def sources(*items: object, every: str = "5f") -> Sources:
    reader = PhotoReader(DETECT, Squares())
    return Sources(map(str, items), Readers(reader.file, reader.array, ClipReader(reader.array, every, 0).rows))


def rows_of(*items: object, backend: Backend, every: str = "5f") -> list[Prediction]:
    return [row for group in classify(sources(*items, every=every), backend) for row in group]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_table_holds_what_the_rows_tell(encode: Encode, backend: Backend, tmp_path: Path, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'fer-deploy[parquet]'")
    images = [with_squares((20 + 4 * n, 60, RED), (250, 95, BLUE)) if n < 12 else with_squares() for n in range(20)]
    clip = encode(tmp_path / "clip.mp4", images)
    expected = rows_of(clip, backend=backend, every="0.3s")
    table = table_sink(str(tmp_path / f"x.{suffix}"))
    run(sources(clip, every="0.3s"), backend, [table], Summary(backend))
    again = table_sink(str(tmp_path / f"x.{suffix}"), resume=True)
    found = [row for row, _ in again._read()]
    assert [(row.status, row.face, row.track) for row in found[:3]] == [("ok", 0, 0), ("ok", 1, 1), ("ok", 0, 0)]
    assert [(row.frame, row.track, row.face, row.status, row.emotion) for row in found] == [
        (row.frame, row.track, row.face, row.status, row.emotion) for row in expected
    ]
    assert [row.time_s for row in found] == pytest.approx([row.time_s for row in expected], abs=1e-6)
    if suffix == "parquet":
        from pyarrow import types
        from pyarrow.parquet import read_table

        read = read_table(tmp_path / "x.parquet")
        assert types.is_float64(read.schema.field("time_s").type)
        assert [read.schema.field(name).type for name in ("frame", "track")] == ["int32", "int32"]
        assert read.column("track").to_pylist() == [row.track for row in expected]  # None stays null


def shown(rows: list[Prediction], page: Path) -> list[np.ndarray | None]:
    """Gives each row's small picture as the page has it."""
    gallery = Gallery(open_video=Video)
    for row in rows:
        gallery.add(row)
    images = [entry.get("picture") for entry in gallery.as_json(page)]
    return [None if text is None else np.asarray(Image.open(BytesIO(base64.b64decode(text)))) for text in images]


def is_red(image: np.ndarray | None) -> bool:
    assert image is not None
    height, width = image.shape[:2]
    red, _, blue = image[height // 2, width // 2].astype(int)
    assert abs(red - blue) > 90  # a square is in the middle
    return bool(red > blue)


def test_faces_of_videos_have_small_pictures(encode: Encode, backend: Backend, tmp_path: Path) -> None:
    images = [with_squares((20 + 10 * n, 50, RED), (220 - 10 * n, 150, BLUE)) for n in range(20)]
    clip, large = encode(tmp_path / "clip.mp4", images), np.zeros((480, 3840, 3), np.uint8)
    large[100:300, 2000:2200] = RED
    rows = rows_of(clip, encode(tmp_path / "large.mp4", [large], preset="ultrafast"), backend=backend)
    assert len(rows) == 9
    seen = shown(rows, tmp_path / "r.html")
    assert [is_red(image) for image in seen] == [(row.box or (0, 0))[1] < 120 for row in rows]
    assert seen[-1] is not None
    assert 100 < seen[-1].shape[0] <= 224  # of the picture as it was reduced


def test_of_a_video_that_is_damaged_or_gone_what_can_be_had(encode: Encode, backend: Backend, tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mkv", moving(40))
    rows = [row for row in rows_of(clip, backend=backend) if row.emotion]
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    images = shown(rows, tmp_path / "r.html")
    count = sum(image is not None for image in images)
    assert 1 <= count < len(rows)
    assert all(image is not None for image in images[:count])
    clip.unlink()
    assert shown(rows, tmp_path / "r.html") == [None] * len(rows)


def test_pictures_that_are_given_are_kept_as_long_as_their_rows(tmp_path: Path) -> None:
    gallery = Gallery(shown=20)
    for number in range(300):
        gallery.add(Prediction("camera 0", "happy", (37 * number % 300) / 300, frame=number), str(number).encode())
    entries = gallery.as_json(tmp_path / "r.html")
    found = [int(base64.b64decode(entry["picture"])) for entry in entries]
    assert found == [row.frame for row in gallery.rows()]
    assert len(found) == len(gallery._images) == 20


@pytest.mark.parametrize(("suffix", "method"), [("mp4", 8), ("mp4", 0), ("mkv", 8), ("avi", 8), ("ts", 8)])
def test_in_an_archive_it_is_as_outside(
    encode: Encode, backend: Backend, tmp_path: Path, suffix: str, method: int
) -> None:
    clip = encode(tmp_path / f"clip.{suffix}", moving(), "mpeg4" if suffix == "avi" else "libx264")
    inside = clip.with_suffix(".m2ts" if suffix == "ts" else clip.suffix).name
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as made:
        made.write(clip, f"holiday/{inside}")
        made.writestr("a.png", b"no picture")
    name = f"{tmp_path}/x.zip/holiday/{inside}"
    broken, *rows = rows_of(tmp_path / "x.zip", backend=backend)
    assert (broken.path, broken.status) == (f"{tmp_path}/x.zip/a.png", "error")
    assert [row.frame for row in rows] == [0, 5, 10, 15]
    outside = clip.rename(tmp_path / inside)
    reported = [(row.time_s, row.frame, row.track, row.box, row.probabilities) for row in rows]
    assert reported == [
        (row.time_s, row.frame, row.track, row.box, row.probabilities) for row in rows_of(outside, backend=backend)
    ]
    assert {row.path for row in rows} == {name}
    assert all(map(is_red, shown(rows, tmp_path / "r.html")))


def test_an_archives_video_is_annotated_or_refused(
    encode: Encode, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        made.write(encode(tmp_path / "clip.mp4", moving()), "clip.mp4")
    zipped = tmp_path / "x.zip"
    with AnnotatedVideos(str(tmp_path / "drawn"), [str(zipped)]) as copies:
        for row in rows_of(zipped, backend=backend):
            copies.write(row)
    with Video(str(tmp_path / "drawn/clip.mp4")) as copy:
        assert len(list(copy.frames())) == 20
    with pytest.raises(UsageError, match="takes a single video"):
        AnnotatedVideos(str(tmp_path / "x.mp4"), [str(zipped)])
    monkeypatch.setattr(archive, "MAX_STREAMED_BYTES", 1000)
    (row,) = rows_of(zipped, backend=backend)
    assert (row.status, row.path) == ("error", f"{zipped}/clip.mp4")
    assert "too large" in row.reason
    assert "unpack it" in row.reason
