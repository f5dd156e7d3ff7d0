"""Small FER-2013s, written by hand and not by the code under test."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
PARTITIONS = {"Training": 3, "PublicTest": 2, "PrivateTest": 1}

Image8 = NDArray[np.uint8]
Written = Callable[..., Path]


def png(image: Image8) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def images() -> dict[tuple[str, str, str], Image8]:
    """(partition, class, name) -> pixels: 3 + 2 + 1 of each class, numbered through each partition."""
    rng = np.random.default_rng(7)
    return {
        (partition, label, f"{partition}_{index * count + number:05d}"): rng.integers(0, 256, (48, 48), np.uint8)
        for partition, count in PARTITIONS.items()
        for index, label in enumerate(CLASSES)
        for number in range(count)
    }


@pytest.fixture(scope="session")
def files(images: dict[tuple[str, str, str], Image8]) -> dict[str, bytes]:
    """The same as Kaggle's files: path -> PNG."""
    return {
        f"{'train' if partition == 'Training' else 'test'}/{label}/{name}.png": png(image)
        for (partition, label, name), image in images.items()
    }


@pytest.fixture(scope="session")
def lines(images: dict[tuple[str, str, str], Image8]) -> list[str]:
    """The same as fer2013.csv, line by line."""
    rows = [
        f"{CLASSES.index(label)},{' '.join(map(str, image.ravel()))},{partition}"
        for (partition, label, _), image in images.items()
    ]
    return ["emotion,pixels,Usage", *rows]


def folder_of(base: Path, files: dict[str, bytes], name: str) -> Path:
    for file, content in files.items():
        path = base / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return base / name


def zip_of(base: Path, files: dict[str, bytes], name: str) -> Path:
    with zipfile.ZipFile(base / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in files.items():
            archive.writestr(file, content)
    return base / name


def csv_of(base: Path, lines: list[str], name: str) -> Path:
    (base / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return base / name


@pytest.fixture
def write_folder(tmp_path: Path) -> Written:
    return lambda files, name="unpacked": folder_of(tmp_path, files, name)


@pytest.fixture
def write_zip(tmp_path: Path) -> Written:
    return lambda files, name="archive.zip": zip_of(tmp_path, files, name)


@pytest.fixture
def write_csv(tmp_path: Path) -> Written:
    return lambda lines, name="fer.csv": csv_of(tmp_path, lines, name)


@pytest.fixture(scope="session")
def every_variant(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], lines: list[str]
) -> dict[str, Path]:
    """What the form is -> where it lies, all of the same data set; not to be changed by tests."""
    base = tmp_path_factory.mktemp("forms")
    junk = {"__MACOSX/train/angry/._x.png": b"x", "train/.DS_Store": b"x", "test/Thumbs.db": b"x", "README.txt": b"x"}
    nested = {f"archive/{name}": content for name, content in files.items()}
    in_msgs = {f"msgs/{name}": content for name, content in (junk | files).items()}
    beside_msgs = junk | {"msgs/a.txt": b"x", "msgs/test/b.txt": b"x"} | files
    windows = {name.replace("/", "\\"): content for name, content in files.items()}
    table = "\n".join(lines).encode()
    icml = icml_lines(lines)
    challenge = {"train.csv": b"emotion,pixels", "test.csv": b"pixels", "icml_face_data.csv": "\n".join(icml).encode()}
    (base / "fer.csv.gz").write_bytes(gzip.compress(table))
    with tarfile.open(base / "fer2013.tar.gz", "w:gz") as tar:
        for name, content in (("fer2013/README", b"hello"), ("fer2013/fer2013.csv", table)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, BytesIO(content))
    return {
        "zip": zip_of(base, files, "archive.zip"),
        "zip nested": zip_of(base, nested, "nested.zip"),
        "zip with junk": zip_of(base, beside_msgs, "junk.zip"),
        "zip in msgs": zip_of(base, in_msgs, "msgs.zip"),
        "zip of Windows": zip_of(base, windows, "windows.zip"),
        "folder": folder_of(base, files | junk, "unpacked"),
        "folder nested": folder_of(base, nested, "nested"),
        "csv": csv_of(base, lines, "fer.csv"),
        "csv with BOM and CRLF": csv_of(base, [f"{line}\r" for line in ("\ufeff" + lines[0], *lines[1:])], "bom.csv"),
        "csv gzipped": base / "fer.csv.gz",
        "csv zipped": zip_of(base, {"some/data.csv": table}, "csv.zip"),
        "csv in tar.gz": base / "fer2013.tar.gz",
        "icml": csv_of(base, icml, "icml_face_data.csv"),
        "icml zipped among others": zip_of(base, challenge, "challenge.zip"),
        "csv in a folder": folder_of(base, {"fer2013.csv": table, "README": b"x"}, "kaggle"),
        "csv without suffix": csv_of(base, lines, "data"),
    }


def icml_lines(lines: list[str]) -> list[str]:
    """The same in the columns of icml_face_data.csv, with quotes as some copies have them."""
    rows = [line.split(",") for line in lines[1:]]
    return ["emotion, Usage, pixels", *(f'{emotion},{usage},"{numbers}"' for emotion, numbers, usage in rows)]
