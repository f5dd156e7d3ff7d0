"""Writes pictures as a folder, a zip or a CSV."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fer_deploy.data.fer2013 import TRAINING
from fer_deploy.labels import LABELS

_ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)
"""The time of zip entries and, as 0, of gzips: always the same, so that the same data set gives the same bytes."""
_NUMBERS: Final = tuple(str(value) for value in range(256))
_COLUMNS: Final = {"csv": ("emotion", "pixels", "Usage"), "icml.csv": ("emotion", " Usage", " pixels")}


class Picture(NamedTuple):
    """One picture on its way out.

    Args:
        partition: One of ``PARTITIONS``.
        label: 0 to 6.
        stem: File name without extension and folder.
        image: uint8, shape (48, 48).
    """

    partition: str
    label: int
    stem: str
    image: NDArray[np.uint8]


def write_folder(folder: Path, pictures: Iterable[Picture]) -> None:
    """Writes ``train/<class>/x.png`` and ``test/<class>/x.png``."""
    folder.mkdir()
    for picture in pictures:
        file = folder / _file_of(picture)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_png(picture))


def write_zip(path: Path, pictures: Iterable[Picture]) -> None:
    """Writes a zip with the same entries; stored, since a PNG is compressed already."""
    with zipfile.ZipFile(path, "x") as archive:
        for picture in pictures:
            archive.writestr(_zip_info(_file_of(picture)), _png(picture))


def write_table(path: Path, pictures: Iterable[Picture], form: str, *, names: bool) -> None:
    """Writes a CSV.

    Args:
        path: Where to.
        pictures: The rows, in their order.
        form: ``csv`` or ``icml.csv``, with ``.gz`` or ``.zip`` behind it where it is to be packed.
        names: Add the column ``name``.
    """
    table = form.removesuffix(".gz").removesuffix(".zip")
    columns = _COLUMNS[table]
    with _opened(path, form, "fer2013.csv" if table == "csv" else "icml_face_data.csv") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow((*columns, "name") if names else columns)
        for picture in pictures:
            values = {
                "emotion": str(picture.label),
                "pixels": " ".join(map(_NUMBERS.__getitem__, picture.image.tobytes())),
                "Usage": picture.partition,
            }
            row = [values[column.strip()] for column in columns]
            rows.writerow([*row, picture.stem] if names else row)


@contextmanager
def _opened(path: Path, form: str, entry: str) -> Iterator[IO[str]]:
    """Opens a text stream that packs as the form says."""
    with ExitStack() as stack:
        raw: IO[bytes] = stack.enter_context(path.open("xb"))
        if form.endswith(".gz"):
            raw = cast(IO[bytes], stack.enter_context(gzip.GzipFile("", "wb", 6, raw, mtime=0)))
        elif form.endswith(".zip"):
            archive = stack.enter_context(zipfile.ZipFile(raw, "w"))
            raw = stack.enter_context(archive.open(_zip_info(entry, zipfile.ZIP_DEFLATED), "w"))
        yield stack.enter_context(io.TextIOWrapper(raw, encoding="utf-8", newline=""))


def _file_of(picture: Picture) -> str:
    top = "train" if picture.partition == TRAINING else "test"
    return f"{top}/{LABELS[picture.label]}/{picture.stem}.png"


def _png(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture.image).save(buffer, "PNG")
    return buffer.getvalue()


def _zip_info(name: str, compression: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _ZIP_TIME)
    info.compress_type = compression
    info.external_attr = 0o644 << 16
    return info
