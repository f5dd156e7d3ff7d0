"""Annotated copies and sorted copies: where they lie, what they hold, and what they never do."""

from __future__ import annotations

import os
import sys
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from fer_deploy.errors import OutputError, UsageError
from fer_deploy.inference.prediction import Prediction, prediction_of, row_of
from fer_deploy.reporting.annotate import COLOURS, Annotated, annotate
from fer_deploy.reporting.copies import Copies, CopyNames, CopySelection, PathList


def row(path: object, emotion: int = 3, confidence: float = 0.9, face: int | None = None) -> Prediction:
    chances = np.full(7, (1 - confidence) / 6, np.float32)
    chances[emotion] = confidence
    made = Prediction.of(str(path), chances)
    if face is None:
        return made
    box = (20.0 + 60 * face, 30.0, 40.0, 50.0)
    return Prediction(*(made.path, made.emotion, made.confidence, made.probabilities), face=face, box=box)


def save(path: Path, value: int = 100, size: tuple[int, int] = (160, 120)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


def copy(folder: Path, rows: list[Prediction], choice: CopySelection, *inputs: object) -> Copies:
    with Copies(folder, choice, [str(each) for each in inputs]) as copies:
        for each in rows:
            copies.write(each)
    return copies


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_chosen_pictures_keep_their_folders(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    rows = [row(save(photos / name), emotion, sure) for name, emotion, sure in (
        ("a/1.png", 3, 0.9), ("a/2.png", 3, 0.7), ("b/1.png", 3, 0.95), ("b/3.png", 0, 0.99),
    )]  # fmt: skip
    os.utime(rows[0].path, (1e9, 1e9))
    rows.append(Prediction.failed(str(photos / "bad.png"), "no"))
    done = copy(tmp_path / "happy", rows, CopySelection(("happy",), 0.8), photos)
    assert below(tmp_path / "happy") == ["a/1.png", "b/1.png"]
    assert (done.written, done.gone) == (2, 0)
    assert (tmp_path / "happy/a/1.png").read_bytes() == (photos / "a/1.png").read_bytes()
    assert (tmp_path / "happy/a/1.png").stat().st_mtime == 1e9
    copy(tmp_path / "all", rows, CopySelection(), photos)
    assert below(tmp_path / "all") == ["angry/b/3.png", "happy/a/1.png", "happy/a/2.png", "happy/b/1.png"]


def test_a_second_run_changes_nothing_and_others_files_are_kept(tmp_path: Path) -> None:
    image = save(tmp_path / "photos/a.png", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").write_text("mine")
    for _ in range(2):
        copy(tmp_path / "out", [row(image)], CopySelection(("happy",)), tmp_path / "photos")
        assert below(tmp_path / "out") == ["a (2).png", "a.png"]
    assert (tmp_path / "out/a.png").read_text() == "mine"


def test_several_inputs_do_not_mix(tmp_path: Path) -> None:
    one, two = save(tmp_path / "one/x.png", 1), save(tmp_path / "two/x.png", 2)
    copy(tmp_path / "out", [row(one), row(two)], CopySelection(("happy",)), tmp_path / "one", tmp_path / "two/")
    assert below(tmp_path / "out") == ["one/x.png", "two/x.png"]
    copy(tmp_path / "files", [row(one), row(two)], CopySelection(("happy",)), tmp_path / "*/x.png")
    assert below(tmp_path / "files") == ["one/x.png", "two/x.png"]


def test_nothing_escapes_the_folder(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    archive = tmp_path / "evil.zip"
    names = ["../../up.png", "/etc/abs.png", "a/../../b.png", "..", "x" * 300 + ".png", "file", "file/below.png"]
    with zipfile.ZipFile(archive, "w") as opened:
        for name in names:
            opened.writestr(name, (tmp_path / "a.png").read_bytes())
    out = tmp_path / "out"
    (tmp_path / "elsewhere").mkdir()
    out.mkdir()
    (out / "a").symlink_to(tmp_path / "elsewhere")
    stored = [info.filename for info in zipfile.ZipFile(archive).infolist()]
    done = copy(out, [row(f"{archive}/{name}") for name in stored], CopySelection(("happy",)), archive)
    assert done.written == len(names)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert below(tmp_path / "out") == [
        *("a_b.png", "etc/abs.png", "file", "file_below.png", "picture", "up.png"),
        "x" * 196 + ".png",
    ]
    assert not (tmp_path.parent / "up.png").exists()


def test_a_picture_that_is_gone_costs_nothing_else(tmp_path: Path) -> None:
    rows = [row(tmp_path / "photos/gone.png"), row(save(tmp_path / "photos/there.png"))]
    done = copy(tmp_path / "out", rows, CopySelection(("happy",)), tmp_path / "photos")
    assert (done.written, done.gone) == (1, 1)


def test_a_picture_with_two_faces_is_copied_once_for_each_emotion(tmp_path: Path) -> None:
    image = save(tmp_path / "photos/two.jpg")
    rows = [row(image, 3, face=0), row(image, 4, face=1), row(image, 3, face=2)]
    done = copy(tmp_path / "out", rows, CopySelection(), tmp_path / "photos")
    assert below(tmp_path / "out") == ["happy/two.jpg", "sad/two.jpg"]
    assert done.written == 2


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no emotion 'glad'; there are: angry"):
        CopySelection(("glad",))
    with pytest.raises(UsageError, match="between 0 and 1"):
        CopySelection((), 80)
    (tmp_path / "photos").mkdir()
    with pytest.raises(UsageError, match="choose a folder outside"):
        CopyNames(tmp_path / "photos/happy", [str(tmp_path / "photos")])
    CopyNames(tmp_path / "photos/happy", [str(tmp_path / "photos/*.png")])
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="it is no folder"):
        CopyNames(tmp_path / "file", [])


def test_the_list_is_paths_byte_for_byte(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    with PathList(CopySelection(("happy",), 0.5)) as listed:
        for each in (row(name), row(name, face=1), row("sad.png", 4), row("unsure.png", 3, 0.4), row("b.png")):
            listed.write(each)
    assert capfdbinary.readouterr().out == b"caf\xe9.png\nb.png\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_list_that_nothing_takes_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        for stdout, reason in ((SimpleNamespace(buffer=full), "no space left on device"), (None, "it is closed")):
            monkeypatch.setattr(sys, "stdout", stdout)
            refused = pytest.raises(OutputError, match=f"cannot write to standard output: {reason}")
            with refused, PathList(CopySelection()) as listed:
                listed.write(row("x.png"))


def test_boxes_and_labels_are_drawn(tmp_path: Path) -> None:
    image = Image.new("RGB", (640, 480), (255, 255, 255))
    found = [row("x.png", 3, face=0), row("x.png", 4, face=8)]
    drawn = annotate(image, found)
    assert drawn.size == image.size
    assert image.getextrema() == ((255, 255),) * 3
    for each in found:
        assert each.box is not None
        x, y, width, height = map(int, each.box)
        colour = COLOURS[str(each.emotion)]
        corners = [(x, y), (x + width, y), (x, y + height), (x + width, y + height)]
        assert [drawn.getpixel(corner) for corner in corners] == [colour] * 4
        assert drawn.getpixel((x + width // 2, y + height // 2)) == (255, 255, 255)
        above = np.asarray(drawn.crop((x, y - 14, x + 40, y - 2))).reshape(-1, 3)
        assert (above == colour).all(axis=1).mean() > 0.4
    wide = annotate(Image.new("RGB", (4000, 3000), (255, 255, 255)), [row("x.png", 3, face=0)])
    assert wide.getpixel((40, 34)) == COLOURS["happy"]  # a line of 10 pixels


def test_annotated_copies(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    upside = Image.new("RGB", (160, 120), (200, 200, 200))
    exif = Image.Exif()
    exif[0x0112] = 6
    (photos / "a").mkdir(parents=True)
    upside.save(photos / "a/turned.jpg", exif=exif)
    rows = [row(photos / "a/turned.jpg", face=0), row(photos / "a/turned.jpg", 4, face=1)]
    rows += [row(save(photos / "crop.bmp", size=(48, 48))), row(photos / "gone.png")]
    rows += [Prediction.of_no_face(str(save(photos / "empty.png")))]
    with Annotated(tmp_path / "out", [str(photos)]) as annotated:
        for each in rows:
            annotated.write(each)
    assert below(tmp_path / "out") == ["a/turned.jpg", "crop.bmp.png"]
    assert (annotated.written, annotated.gone) == (2, 1)
    turned = Image.open(tmp_path / "out/a/turned.jpg")
    assert (turned.size, turned.getexif().get(0x0112)) == ((120, 160), None)
    crop = Image.open(tmp_path / "out/crop.bmp.png")
    assert crop.height > 48
    assert crop.getpixel((1, crop.height - 1)) == COLOURS["happy"]


def test_a_row_of_the_table_is_drawn_as_the_face_it_was_made_of() -> None:
    found = replace(row("x.png", face=0), box=(19.6, 30.4, 40.7, 50.5))
    image = Image.new("RGB", (160, 120), (255, 255, 255))
    assert annotate(image, [found]).tobytes() == annotate(image, [prediction_of(row_of(found))]).tobytes()


def test_a_heic_photo_is_drawn_in_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for pillow-heif that finds a PNG behind a HEIC's first bytes."""
    start = b"\x00\x00\x00\x18ftypheic"

    def register() -> None:
        opener = lambda file, name: PngImageFile(BytesIO(file.read()[len(start) :]))  # noqa: E731
        monkeypatch.setitem(Image.OPEN, "HEIF", (opener, lambda prefix: prefix.startswith(start)))

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))  # type: ignore[arg-type]
    png = save(tmp_path / "photos/a.png")
    photo = tmp_path / "photos/IMG_1.HEIC"
    photo.write_bytes(start + png.read_bytes())
    with Annotated(tmp_path / "out", [str(tmp_path / "photos")]) as annotated:
        annotated.write(row(photo, face=0))
    assert below(tmp_path / "out") == ["IMG_1.HEIC.png"]
