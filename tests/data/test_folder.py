"""Bad pictures, each with what it says."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fer_deploy.data.fer2013 import TRAINING
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.data.folder import decode
from fer_deploy.errors import DataError


def encoded(mode: str = "L", size: tuple[int, int] = (48, 48), data_format: str = "PNG") -> bytes:
    buffer = BytesIO()
    Image.new(mode, size, 1).save(buffer, data_format)
    return buffer.getvalue()


BAD = {
    "train/angry/x.png": {
        "the file is empty, expected a picture": b"",
        "it is not a readable picture, expected PNG, JPEG or BMP": b"GIF89a nonsense",
        "the picture is damaged (": encoded()[:60],
        "the picture has 48x47 pixels, expected 48x48": encoded(size=(48, 47)),
        "the picture is damaged (Image size (900000000 pixels) exceeds limit": b"BM"
        + b"\0" * 8
        + b"\x36\0\0\0\x28\0\0\0\x30\x75\0\0\x30\x75\0\0\1\0\x18\0"
        + b"\0" * 24,
        "the picture's mode is RGB, expected L (8-bit gray)": encoded("RGB"),
        "the picture's mode is 1, expected L (8-bit gray)": encoded("1"),
        "the picture's mode is I;16, expected L (8-bit gray)": encoded("I;16"),
        "the file has 1,048,577 bytes, expected a 48x48 picture of a few thousand": bytes((1 << 20) + 1),
    },
    "train/angry/x.gif": {"it is no picture, expected .png, .jpg, .jpeg, .bmp": encoded(data_format="GIF")},
    "train/angry/x\x07.png": {"its name 'x\\x07' cannot be a plain file name in every form": encoded()},
    "train/x.png": {"it lies in the wrong place, expected <train or test>/<class>/<picture>": encoded()},
    "train/angry/more/x.png": {"it lies in the wrong place, expected <train": encoded()},
    "train/Training_00000/x.png": {
        "unknown class folder with 1 files, expected one of the classes angry, disgust, fear, happy": encoded()
    },
    "train/happy/Training_00009.jpg": {"there is already a picture Training_00009 of class happy": encoded()},
}
CASES = [(name, reason, content) for name, cases in BAD.items() for reason, content in cases.items()]


@pytest.mark.parametrize(("name", "reason", "content"), CASES, ids=[reason for _, reason, _ in CASES])
def test_a_bad_picture_is_named(name: str, reason: str, content: bytes, files, write_zip, write_folder) -> None:
    where = "train/Training_00000/" if "unknown class" in reason else name
    where = "train/happy/Training_00009.png" if "already" in reason else where
    for path in (write_zip(files | {name: content}), write_folder(files | {name: content})):
        with pytest.raises(DataError) as caught:
            load_fer2013(path)
        assert str(caught.value).startswith(f"{path}, {where}: {reason}")
        assert str(caught.value).endswith("Repair it, or go on without it: --skip-bad (Python: skip_bad=True)")

        data = load_fer2013(path, skip_bad=True)
        assert len(data.partition(TRAINING)) == 21
        assert [bad.where for bad in data.skipped] == [where]
        assert data.skipped[0].reason.startswith(reason)


def test_a_broken_link_is_a_bad_picture(files: dict[str, bytes], write_folder) -> None:
    path: Path = write_folder(files)
    (path / "train/angry/gone.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"train/angry/gone.png: the file cannot be read \(.*No such file"):
        load_fer2013(path)


def test_a_damaged_zip_entry_is_a_bad_picture(files: dict[str, bytes], write_zip) -> None:
    path: Path = write_zip(files)
    raw = bytearray(path.read_bytes())
    raw[200] ^= 0xFF  # inside the first picture
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"archive.zip, train/angry/Training_00000.png: the file cannot be read \("):
        load_fer2013(path)
    assert len(load_fer2013(path, skip_bad=True).partition(TRAINING)) == 20


def test_jpeg_bmp_and_capital_letters_are_read(write_zip) -> None:
    names = {"Train/Happy/a.JPG": "JPEG", "Train/happy/b.bmp": "BMP", "TEST/Sad/PublicTest_1.jpeg": "JPEG"}
    data = load_fer2013(write_zip({name: encoded(data_format=data_format) for name, data_format in names.items()}))
    assert {name: len(partition) for name, partition in data.partitions.items()} == {"Training": 2, "PublicTest": 1}
    assert np.all(data.partition(TRAINING).images == 1)


@given(st.integers(0, 2**32), st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=20))
@settings(deadline=None)
def test_a_damaged_file_gives_a_picture_or_a_reason(seed: int, damage: list[tuple[int, int]]) -> None:
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 48), np.uint8))
    for data_format in ("PNG", "JPEG", "BMP"):
        buffer = BytesIO()
        image.save(buffer, data_format)
        raw = bytearray(buffer.getvalue())
        for position, value in damage:
            raw[position % len(raw)] = value
        try:
            pixels = decode(bytes(raw))
        except ValueError:
            continue
        assert len(pixels) == 2304
