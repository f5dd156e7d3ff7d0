"""Members of archives that are unpacked as they are read."""

from __future__ import annotations

import os
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.errors import ImageError
from fer_deploy.images import archive
from fer_deploy.images.archive import inside_archive, open_member

SIZE = 3 << 20


@pytest.fixture(scope="module")
def content() -> bytes:
    return np.random.default_rng(0).integers(0, 4, SIZE, dtype=np.uint8).tobytes()  # packs to a third or so


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_any_part_is_read_as_of_a_file(tmp_path: Path, content: bytes, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as made:
        made.writestr("a/clip.mp4", content)
    places = [0, SIZE - 10, SIZE, 5, SIZE // 2, SIZE // 2 + 1]
    with open_member(str(tmp_path / "x.zip"), "a/clip.mp4") as member:
        for place in places:
            assert member.seek(place) == member.tell() == place
            assert member.read(100) == content[place : place + 100]
        assert member.seek(-7, os.SEEK_END) == SIZE - 7
        assert member.seek(3, os.SEEK_CUR) == SIZE - 4
        assert member.read(100) == content[-4:]
        assert member.read(100) == b""
        member.seek(0)
        assert b"".join(iter(lambda: member.read(-1), b"")) == content


def test_memory_does_not_grow_with_it_and_going_back_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 96 << 20
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        made.writestr("clip.mp4", bytes(size))
    with open_member(str(tmp_path / "x.zip"), "clip.mp4") as member:
        tracemalloc.start()
        member.seek(size - 1)
        assert member.read(9) == b"\0"
        member.seek(0)
        assert len(member.read(1 << 30)) == 1 << 20
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 48 << 20

        def go_back_and_forth() -> None:
            for turn in range(16):
                member.seek(size - 1 if turn % 2 else 0)
                member.read(1)

        with pytest.raises(OSError, match="its parts lie too far apart"):
            go_back_and_forth()


def test_what_cannot_be_read_so_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, method in (("lzma", zipfile.ZIP_LZMA), ("plain", zipfile.ZIP_STORED)):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w", method) as made:
            made.writestr("clip.mp4", b"some content" * 100)
    with pytest.raises(ImageError, match="unpack it, and give the file"):
        open_member(str(tmp_path / "lzma.zip"), "clip.mp4")
    with pytest.raises(ImageError, match="not in a readable zip archive"):
        open_member(str(tmp_path / "plain.zip"), "other.mp4")
    monkeypatch.setattr(archive, "MAX_STREAMED_BYTES", 1000)
    with pytest.raises(
        ImageError, match="too large: 1200 bytes, the limit of a video in an archive is 1000: unpack it"
    ):
        open_member(str(tmp_path / "plain.zip"), "clip.mp4")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "plain.zip").read_bytes()[:200])
    with pytest.raises(ImageError, match="not in a readable zip archive"):
        open_member(str(tmp_path / "cut.zip"), "clip.mp4")


def test_damage_is_an_error_of_the_file(tmp_path: Path, content: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("clip.mp4", content)
    damaged = bytearray((tmp_path / "x.zip").read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 50] = bytes(50)
    (tmp_path / "x.zip").write_bytes(damaged)
    with (
        open_member(str(tmp_path / "x.zip"), "clip.mp4") as member,
        pytest.raises(OSError, match="damaged in the arch"),
    ):
        b"".join(iter(lambda: member.read(1 << 16), b""))


def test_a_name_is_split_at_the_archive_that_is_there(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        made.writestr("y.zip/clip.mp4", b"any")
    assert inside_archive(f"{tmp_path}/x.zip/y.zip/clip.mp4") == (f"{tmp_path}/x.zip", "y.zip/clip.mp4")
    assert inside_archive(f"{tmp_path}/x.zip") is None
    assert inside_archive(f"{tmp_path}/none.zip/clip.mp4") is None


def test_a_letter_that_is_longer_in_lower_case_moves_nothing(tmp_path: Path) -> None:
    (tmp_path / "İİ").mkdir()
    with zipfile.ZipFile(tmp_path / "İİ/x.ZIP", "w") as made:
        made.writestr("clip.mp4", b"any")
    assert inside_archive(f"{tmp_path}/İİ/x.ZIP/clip.mp4") == (f"{tmp_path}/İİ/x.ZIP", "clip.mp4")
