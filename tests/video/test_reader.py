from __future__ import annotations

import struct
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.errors import ImageError, MissingDependencyError
from fer_deploy.video.reader import FrameSampling, Video

from .conftest import Encode, moving, with_squares


def times(path: Path, every: str) -> list[tuple[int, float]]:
    with Video(str(path)) as video:
        found = [(frame.number, frame.time_s) for frame in video.frames(FrameSampling.parse(every))]
        assert video.trouble is None
    return found


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".mov"])
def test_sampled_by_time_and_by_pictures(encode: Encode, tmp_path: Path, suffix: str) -> None:
    path = encode(tmp_path / f"clip{suffix}", moving(), "mpeg4" if suffix == ".avi" else "libx264")
    assert times(path, "0.5s") == [(0, 0.0), (5, 0.5), (10, 1.0), (15, 1.5)]
    assert times(path, "7f") == [(0, 0.0), (7, 0.7), (14, 1.4)]
    assert len(times(path, "1")) == 20


def test_pixels_are_those_that_were_encoded(encode: Encode, tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", moving())
    with Video(str(path)) as video:
        for frame, image in zip(video.frames(), moving(), strict=True):
            pixels = frame.pixels()
            assert pixels.shape == image.shape
            assert np.abs(pixels.astype(int) - image).mean() < 4


def turn(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Writes a rotation into an mp4's track header, as telephones do."""
    content = path.read_bytes()
    place = content.index(b"tkhd") + 4 + 40
    one = 1 << 16
    assert struct.unpack(">9i", content[place : place + 36])[0] == one
    matrix = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:place] + matrix + content[place + 36 :])


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [((1, 0, 0, 1), (0, 0)), ((0, 1, -1, 0), (0, -1)), ((-1, 0, 0, -1), (-1, -1)), ((0, -1, 1, 0), (-1, 0))],
)
def test_rotation_is_applied(
    encode: Encode, tmp_path: Path, matrix: tuple[int, int, int, int], corner: tuple[int, int]
) -> None:
    image = with_squares((0, 0, (220, 30, 30)))  # in the left upper corner
    path = encode(tmp_path / "clip.mp4", [image] * 3)
    turn(path, *matrix)
    with Video(str(path)) as video:
        pixels = next(video.frames()).pixels()
    assert pixels.shape == ((240, 320, 3) if matrix[0] else (320, 240, 3))
    reddest = [place for place in ((0, 0), (0, -1), (-1, 0), (-1, -1)) if pixels[place][0] > 150]
    assert reddest == [corner]  # 90 degrees clockwise brings it to the right


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'fer-deploy[video]'")
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        image = with_squares((40, 40, (220, 30, 30)))
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    with Video(str(tmp_path / "clip.mkv")) as video:
        frame = next(video.frames())
    pixels = frame.pixels()
    assert (pixels.shape, frame.scale) == ((240, 640, 3), 1)
    columns = np.nonzero(pixels[60, :, 0] > 150)[0]
    assert (columns.min(), columns.max()) == pytest.approx((80, 159), abs=3)


def test_large_pictures_are_reduced_and_say_so(encode: Encode, tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", [np.zeros((1000, 3840, 3), np.uint8)], preset="ultrafast")
    with Video(str(path)) as video:
        frame = next(video.frames())
        assert (frame.pixels().shape, frame.scale) == ((500, 1920, 3), 2)


@pytest.fixture(scope="module")
def noise(encode: Encode, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Forty pictures of about the same size each."""
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 256, (96, 128, 3), dtype=np.uint8) for _ in range(40))
    return encode(tmp_path_factory.mktemp("noise") / "clip.mkv", images).read_bytes()


@pytest.mark.parametrize("share", [n / 10 for n in range(1, 10)])
def test_of_a_truncated_one_the_beginning_is_read(noise: bytes, tmp_path: Path, share: float) -> None:
    path = tmp_path / "clip.mkv"
    path.write_bytes(noise[: round(share * len(noise))])
    with Video(str(path)) as video:
        numbers = [frame.number for frame in video.frames()]
    assert abs(len(numbers) - 40 * share) <= 4
    assert numbers == list(range(len(numbers)))
    assert video.trouble
    assert any(word in video.trouble for word in ("truncated", "damaged", "cannot be read", "no picture"))


def test_of_a_damaged_one_what_is_sound_is_read(encode: Encode, tmp_path: Path) -> None:
    content = bytearray(encode(tmp_path / "clip.mkv", moving(40)).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = bytes(300)
    (tmp_path / "clip.mkv").write_bytes(content)
    with Video(str(tmp_path / "clip.mkv")) as video:
        numbers = [frame.number for frame in video.frames()]
    assert 10 < len(numbers) <= 40
    assert len(numbers) == 40 or video.trouble


def test_what_is_no_video_says_why(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'fer-deploy[video]'")
    text, play_list, empty, audio = (tmp_path / f"{name}.mp4" for name in ("text", "list", "empty", "audio"))
    text.write_text("not a video")
    play_list.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n")
    empty.touch()
    with av.open(str(audio), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    reasons = {text: "no video, or a damaged one", play_list: "no video", empty: "empty file", audio: "only sound"}
    reasons[tmp_path / "none.mp4"] = "no such file"
    for path, reason in reasons.items():
        with pytest.raises(ImageError, match=reason) as error:
            Video(str(path))
        assert str(tmp_path) not in str(error.value)


def test_a_video_without_a_picture(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'fer-deploy[video]'")
    with av.open(str(tmp_path / "clip.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        container.start_encoding()
    with Video(str(tmp_path / "clip.avi")) as video:
        assert list(video.frames()) == []
    assert video.trouble == "no picture in it could be read"


def test_without_pyav_the_line_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'fer-deploy\[video\]'"):
        Video(str(tmp_path / "clip.mp4"))
