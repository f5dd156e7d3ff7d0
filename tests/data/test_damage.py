"""Bytes changed anywhere in any form: the data set is read, or one line says why not. Nothing else ever comes out."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.errors import DataError

TABLE = ("emotion,pixels,Usage\n" + f"3,{' '.join(['12'] * 2304)},Training\n" * 3).encode()


def zipped(files: dict[str, bytes], compression: int) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("fer2013/fer2013.csv")
        member.size = len(TABLE)
        tar.addfile(member, BytesIO(TABLE))
    return buffer.getvalue()


def images() -> dict[str, bytes]:
    found = {}
    for number in range(3):
        buffer = BytesIO()
        Image.fromarray(np.full((48, 48), number, np.uint8)).save(buffer, "PNG")
        found[f"train/happy/{number}.png"] = buffer.getvalue()
    return found


DATA_FORMATS = {
    "csv": TABLE,
    "gzip": gzip.compress(TABLE),
    "tar": tarred(),
    **{f"zip of pictures, {method}": zipped(images(), method) for method in (0, 8, 12, 14)},
    **{f"zip of a csv, {method}": zipped({"a.csv": TABLE}, method) for method in (0, 8, 12, 14)},
}


@pytest.mark.parametrize("data_format", DATA_FORMATS)
def test_damage_gives_one_line(data_format: str, tmp_path: Path) -> None:
    whole = DATA_FORMATS[data_format]
    # half of the damage goes to the last 300 bytes, where a zip has its directory
    position = st.one_of(st.integers(0, len(whole) - 1), st.integers(max(0, len(whole) - 300), len(whole) - 1))

    @given(st.lists(st.tuples(position, st.integers(0, 255)), max_size=5), position, st.booleans(), st.booleans())
    @settings(max_examples=60, deadline=None)
    def check(damage: list[tuple[int, int]], end: int, cut: bool, skip_bad: bool) -> None:
        raw = bytearray(whole)
        for place, value in damage:
            raw[place] = value
        (tmp_path / "file").write_bytes(raw[:end] if cut else raw)
        try:
            data = load_fer2013(tmp_path / "file", skip_bad=skip_bad)
        except DataError as error:
            said = str(error)
        else:
            said = "" if data.partitions else "nothing"
        assert "\n" not in said
        assert said == "" or said.startswith(str(tmp_path / "file"))

    check()


def test_a_newline_in_a_name_stays_on_one_line(tmp_path: Path) -> None:
    raw = DATA_FORMATS["zip of pictures, 0"].replace(b"train/happy/0.png", b"train/hap\ny/0.png")
    (tmp_path / "file").write_bytes(raw)
    with pytest.raises(DataError, match=r"hap\\ny/: unknown class folder") as caught:
        load_fer2013(tmp_path / "file")
    assert "\n" not in str(caught.value)
