from __future__ import annotations

import os
import subprocess
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_deploy.errors import ImageError
from fer_deploy.images.archive import MAX_MEMBER_BYTES
from fer_deploy.images.sources import Item, Sources


def png(value: int = 0) -> bytes:
    buffer = BytesIO()
    Image.new("L", (48, 48), value).save(buffer, "PNG")
    return buffer.getvalue()


def names(*items: Item) -> list[str]:
    return [source.name for source in Sources(items)]


def reason(item: Item) -> str:
    (source,) = Sources([item])
    with pytest.raises(ImageError) as caught:
        source.read()
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """b.png, a/2.png, a/10.png, a/deep/x.jpg, c (no suffix), and what is to be left out."""
    for name in ("b.png", "a/2.png", "a/10.png", "a/deep/x.jpg", "c", ".hidden.png", ".git/y.png", "a/Thumbs.db"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png())
    (tmp_path / "set/labels.CSV").touch()
    (tmp_path / "set/LICENSE.txt").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "set"


def test_a_folder_is_walked_in_sorted_order(folder: Path) -> None:
    sources = Sources(["set"])
    found = [source.name for source in sources]
    assert found == ["set/a/10.png", "set/a/2.png", "set/a/deep/x.jpg", "set/b.png", "set/c"]
    assert sources.found == 5
    assert sources.skipped == {"hidden": 3, "sidecars": 2}
    assert names("set/") == found
    assert names(Path("set")) == found
    assert names(".") == [f"./{name}" for name in found]


def test_paths_come_in_the_order_given(folder: Path) -> None:
    assert names("set/c", "set/a/deep", "set/b.png") == ["set/c", "set/a/deep/x.jpg", "set/b.png"]


def test_what_is_named_is_tried_whatever_its_name(folder: Path) -> None:
    assert names("set/.hidden.png", "set/labels.CSV") == ["set/.hidden.png", "set/labels.CSV"]


def test_patterns(folder: Path) -> None:
    assert names("set/*.png") == ["set/b.png"]
    assert names("set/a*") == names("set/a")
    assert names("set/**/*.png") == ["set/a/10.png", "set/a/2.png", "set/b.png"]
    (folder / "[1].png").write_bytes(png())
    assert names("set/[1].png") == ["set/[1].png"]
    assert reason("set/*.tiff") == "no file matches this pattern"


def test_a_pattern_gives_each_picture_once(folder: Path) -> None:
    (folder / "a-b").mkdir()
    (folder / "a-b/3.png").write_bytes(png())  # sorted between a and a/2.png
    assert names("set/**") == names("set")
    assert sorted(names("set/**/*")) == sorted(names("set"))
    assert names("set/**/**/*.png") == names("set/**/*.png")
    assert sorted(names("**")) == sorted(names("set"))


def test_a_pattern_leaves_out_what_a_folder_does(folder: Path) -> None:
    for name in ("out.csv", "out.csv.resume.json", "__MACOSX/x.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(png())
    sources = Sources(["set/*"])
    assert [source.name for source in sources] == names("set")
    assert sources.found == 5
    assert sources.skipped == {"sidecars": 4, "hidden": 2}  # __MACOSX, and Thumbs.db in a
    assert names("set/*.csv") == []
    assert names("set/.h*") == ["set/.hidden.png"]


def test_a_missing_path_is_one_failing_source_and_not_found(folder: Path) -> None:
    assert reason("gone.png") == "no such file"
    sources = Sources(["gone.png", "", "set/c"])
    assert len(list(sources)) == 3
    assert sources.found == 1


def test_link_loops_end(folder: Path) -> None:
    (folder / "a/up").symlink_to(folder)
    (folder / "a/self").symlink_to(folder / "a")
    (folder / "elsewhere").symlink_to(folder / "a/deep")
    (folder / "ouroboros").symlink_to(folder / "ouroboros")
    sources = Sources(["set"])
    found = [source.name for source in sources]
    assert found[-3:] == ["set/c", "set/elsewhere/x.jpg", "set/ouroboros"]
    assert sources.skipped["links back to their own folder"] == 2


def test_folders_nested_deeper_than_pythons_recursion(tmp_path: Path) -> None:
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        for _ in range(1500):
            Path("d").mkdir()
            os.chdir("d")
        Path("x.png").write_bytes(png())
        os.chdir(tmp_path)
        assert names("d") == ["d/" * 1500 + "x.png"]
    finally:  # pytest's own removal is recursive
        os.chdir(here)
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_one_failing_source(folder: Path) -> None:
    (folder / "a").chmod(0)
    try:
        assert names("set") == ["set/a", "set/b.png", "set/c"]
        assert reason("set/a") == "permission denied"
    finally:
        (folder / "a").chmod(0o755)


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9\n.png"
    Path(os.fsdecode(path)).write_bytes(png(9))
    (source,) = Sources([tmp_path])
    assert os.fsencode(source.name) == path
    assert (source.read() == 9).all()


def test_bytes_and_arrays() -> None:
    sources = list(Sources([png(3), np.full((48, 48), 4, np.uint8)]))
    assert [source.name for source in sources] == ["item 0", "item 1"]
    assert [int(source.read()[0, 0, 0]) for source in sources] == [3, 4]
    assert len(list(Sources(np.zeros((5, 48, 48, 1), np.uint8)))) == 5


def test_walking_is_lazy(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").touch()
    walk = iter(Sources([tmp_path]))
    next(walk)
    (tmp_path / "b/y.png").touch()
    assert [Path(source.name).name for source in walk] == ["x.png", "y.png"]


def test_a_zip_archive(folder: Path) -> None:
    with zipfile.ZipFile("faces.ZIP", "w", zipfile.ZIP_DEFLATED) as archive:
        for value, name in enumerate(["b.png", "a/z.png", "__MACOSX/._b.png", "a/.DS_Store", "notes.md"]):
            archive.writestr(name, png(value))
        archive.mkdir("empty")
        archive.writestr("zero.png", b"")
    sources = Sources(["faces.ZIP"])
    found = list(sources)
    assert [source.name for source in found] == ["faces.ZIP/a/z.png", "faces.ZIP/b.png", "faces.ZIP/zero.png"]
    assert [int(source.read()[0, 0, 0]) for source in found[:2]] == [1, 0]
    with pytest.raises(ImageError, match="empty file"):
        found[2].read()
    assert sources.skipped == {"hidden": 2, "sidecars": 1}


def test_damaged_members_fail_alone(folder: Path) -> None:
    with zipfile.ZipFile("faces.zip", "w") as archive:
        for name in ("a.png", "b.png", "c.png", "d.png"):
            archive.writestr(name, png(7))
    content = bytearray(Path("faces.zip").read_bytes())
    content[content.index(b"a.png") + 20] ^= 255  # inside the stored picture: its checksum no longer fits
    table = content.index(b"PK\x01\x02")
    second, third = (content.index(name, table) - 46 for name in (b"b.png", b"c.png"))
    content[second + 8] |= 1  # encrypted
    content[third + 24 : third + 28] = (MAX_MEMBER_BYTES + 1).to_bytes(4, "little")  # unpacked size
    Path("faces.zip").write_bytes(content)
    a, b, c, d = Sources(["faces.zip"])
    for source, expected in ((a, "damaged in the archive"), (b, "encrypted"), (c, "too large")):
        with pytest.raises(ImageError, match=expected):
            source.read()
    assert (d.read() == 7).all()


def test_a_broken_archive_is_one_failing_source(folder: Path) -> None:
    with zipfile.ZipFile("faces.zip", "w") as archive:
        archive.writestr("a.png", png())
    Path("faces.zip").write_bytes(Path("faces.zip").read_bytes()[:-30])
    assert reason("faces.zip").startswith("not a readable zip archive")
    os.mkfifo("pipe.zip")
    assert reason("pipe.zip") == "a named pipe, not a picture"


def test_an_archive_inside_a_folder_is_opened_in_its_turn(folder: Path) -> None:
    with zipfile.ZipFile("set/b.zip", "w") as archive:
        archive.writestr("a.png", png())
        archive.writestr("inner.zip", b"PK\x03\x04")
    found = names("set")
    assert "set/b.zip/a.png" in found
    assert found == sorted(found)
    with pytest.raises(ImageError, match=r"zip archive, which is opened only under a name"):
        next(source for source in Sources(["set"]) if source.name.endswith("inner.zip")).read()
