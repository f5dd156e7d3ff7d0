"""Inputs that are hard on a reader, beside those in test_decode.py and test_sources.py; mutations, in short."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_deploy.errors import ImageError
from fer_deploy.images.archive import MAX_MEMBER_BYTES
from fer_deploy.images.decode import decode
from fer_deploy.images.sources import Sources

FACE = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)


def encoded(format: str = "PNG") -> bytes:
    buffer = BytesIO()
    Image.fromarray(FACE).save(buffer, format)
    return buffer.getvalue()


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize(("format", "suffix"), [("PNG", "jpg"), ("JPEG", "png"), ("BMP", "txt"), ("GIF", "mp4")])
def test_a_wrong_extension_does_not_matter(tmp_path: Path, format: str, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(encoded(format))
    (source,) = Sources([tmp_path])
    np.testing.assert_array_equal(source.read(), decode(encoded(format)))


def test_a_picture_named_as_an_archive_is_one_failure(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(encoded())
    (source,) = Sources([tmp_path])
    with pytest.raises(ImageError, match="not a readable zip archive"):
        source.read()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_by_every_method(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        archive.writestr("a.png", encoded())
        archive.writestr("b.png", encoded())
    content = bytearray((tmp_path / "x.zip").read_bytes())
    at = content.index(b"PK\x01\x02") + 16
    content[at] ^= 1  # the checksum of the first
    (tmp_path / "x.zip").write_bytes(content)
    damaged, good = Sources([tmp_path / "x.zip"])
    with pytest.raises(ImageError, match="damaged in the archive"):
        damaged.read()
    assert (good.read()[:, :, 0] == FACE).all()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_bombs_are_not_unpacked(tmp_path: Path, method: int) -> None:
    """One says how large it is, one lies about it."""
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", method) as archive:
        with archive.open("a-honest.png", "w", force_zip64=True) as member:
            for _ in range(MAX_MEMBER_BYTES // (1 << 20) + 1):
                member.write(bytes(1 << 20))
        archive.writestr("b-good.png", encoded())
    content = bytearray((tmp_path / "bomb.zip").read_bytes())
    before = peak_mib()
    honest, good = Sources([tmp_path / "bomb.zip"])
    with pytest.raises(ImageError, match="too large"):
        honest.read()
    assert (good.read()[:, :, 0] == FACE).all()
    table = content.index(b"PK\x01\x02")
    for said in (1000, 1 << 20):
        content[table + 24 : table + 28] = said.to_bytes(4, "little")
        (tmp_path / "liar.zip").write_bytes(content)
        liar, good = Sources([tmp_path / "liar.zip"])
        with pytest.raises(ImageError):
            liar.read()
        assert (good.read()[:, :, 0] == FACE).all()
    assert peak_mib() - before < 60


def test_a_zip_with_ways_out_is_read_where_it_lies(tmp_path: Path) -> None:
    names = ["../../etc/up.png", "/abs.png", "a/../../b.png", "C:\\windows\\x.png", "new\nline.png"]
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        for name in names:
            archive.writestr(name, encoded())
    walked = Sources([tmp_path / "evil.zip"])
    sources = list(walked)
    found = {source.name.removeprefix(f"{tmp_path}/evil.zip/") for source in sources}
    assert found == {name for name in names if ".." not in name}
    assert walked.skipped == {"hidden": 2}  # as all that begins with a dot
    for source in sources:
        assert (source.read()[:, :, 0] == FACE).all()
    assert [path.name for path in tmp_path.iterdir()] == ["evil.zip"]


def test_a_file_that_is_deleted_or_replaced_after_it_was_listed(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_bytes(encoded())
    a, b, c, d = Sources([tmp_path])
    (tmp_path / "b").unlink()
    (tmp_path / "c").unlink()
    os.mkfifo(tmp_path / "c")
    (tmp_path / "d").unlink()
    (tmp_path / "d").mkdir()
    assert (a.read()[:, :, 0] == FACE).all()
    for source, reason in ((b, "no such file"), (c, "named pipe"), (d, "a folder")):
        with pytest.raises(ImageError, match=reason):
            source.read()


def test_an_archive_that_is_deleted_after_it_was_listed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", encoded())
    (source,) = Sources([tmp_path / "x.zip"])
    (tmp_path / "x.zip").unlink()
    assert (source.read()[:, :, 0] == FACE).all()  # it is open


def test_mutated_pictures_and_archives_never_crash_or_hang() -> None:
    """The short form of ``tests/tools/mutate.py``."""
    tool = Path(__file__).parents[1] / "tools/mutate.py"
    options = ["--images", "400", "--zips", "60", "--first", "1000000"]
    done = subprocess.run([sys.executable, str(tool), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    read, refused = (sum(map(int, re.findall(rf"(\d+) {word}", done.stdout))) for word in ("read", "refused"))
    assert read + refused == 460
    assert min(read, refused) > 50  # damaged enough, and not too much


def test_an_entry_without_a_name_costs_one_row(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", encoded())
        archive.writestr("b.png", encoded())
    content = bytearray((tmp_path / "x.zip").read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 28 : entry + 32] = b"\0\0\x01\0"  # no name, and a byte more of what follows it
    (tmp_path / "x.zip").write_bytes(content)
    nameless, good = Sources([tmp_path / "x.zip"])
    with pytest.raises(ImageError, match="damaged in the archive"):
        nameless.read()
    assert (good.read()[:, :, 0] == FACE).all()
