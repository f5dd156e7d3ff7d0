"""Writes FER-2013 in any of the forms that the reader knows, losslessly.

Writes pictures as a folder, a zip or a CSV.

Where a data set may be written to: nothing of the user's is lost.
"""

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

from fer_deploy.data.csv import made_name
from fer_deploy.data.fer2013 import PARTITIONS, TEST, TRAINING, Fer2013, Progress, name_problem
from fer_deploy.data.folder import FOLDERS, is_junk, partitions_by_name
from fer_deploy.errors import DataError, UsageError
from fer_deploy.labels import LABELS
from fer_deploy.system.files import check_writable, written_whole

DATA_FORMATS: Final = ("folder", "zip", "csv", "csv.gz", "csv.zip", "icml.csv", "icml.csv.gz", "icml.csv.zip")
"""What ``convert`` writes; ``icml`` has the column order and spelling of icml_face_data.csv."""
_ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)
"""The time of zip entries and, as 0, of gzips: always the same, so that the same data set gives the same bytes."""
_NUMBERS: Final = tuple(str(value) for value in range(256))
_COLUMNS: Final = {"csv": ("emotion", "pixels", "Usage"), "icml.csv": ("emotion", " Usage", " pixels")}


def guess_data_format(target: Path) -> str:
    """Tells from a path what is to be written there.

    Raises:
        UsageError: The path does not tell.
    """
    name = target.name.lower()
    if target.is_dir() or "." not in name:
        return "folder"
    table = "icml.csv" if "icml" in name else "csv"
    for suffix, data_format in (
        (".csv.gz", f"{table}.gz"),
        (".csv.zip", f"{table}.zip"),
        (".csv", table),
        (".zip", "zip"),
    ):
        if name.endswith(suffix):
            return data_format
    raise UsageError(f"{target} does not tell what to write there: add --form with one of {', '.join(DATA_FORMATS)}")


def convert(
    data: Fer2013,
    target: str | Path,
    *,
    data_format: str | None = None,
    overwrite: bool = False,
    names: bool = True,
    progress: Progress | None = None,
) -> str:
    """Writes a data set; pixels, labels, partitions and names come back the same from ``load_fer2013``.

    Args:
        data: What to write.
        target: Where to.
        data_format: One of ``DATA_FORMATS``; guessed from the target without it.
        overwrite: Replace what is there.
        names: Add a column ``name`` to a CSV whose pictures have names other than those that the reader makes;
            without it the CSV has the original three columns, and the names are lost.
        progress: Called with pictures written and their total.

    Returns:
        The form that was written.

    Raises:
        UsageError: The form is unknown or cannot be guessed.
        DataError: The form cannot hold this data set.
        OutputError: The target exists and is not to be replaced, or cannot be written.
    """
    target = Path(target)
    data_format = data_format or guess_data_format(target)
    if data_format not in DATA_FORMATS:
        raise UsageError(f"The form {data_format!r} is unknown; it must be one of {', '.join(DATA_FORMATS)}")
    check_target(target, data_format, overwrite)
    images = list(_images(data))
    if data_format in ("folder", "zip"):
        _check_distinguishable(data, images)
    counted = _counted(images, progress)
    with written_whole(target) as partial:
        if data_format == "folder":
            write_folder(partial, counted)
        elif data_format == "zip":
            write_zip(partial, counted)
        else:
            write_table(partial, counted, data_format, names=names and not _names_are_made(images))
    return data_format


def _images(data: Fer2013) -> Iterator[NamedImage]:
    for name in PARTITIONS:
        if name not in data.partitions:
            continue
        partition = data.partitions[name]
        for image, label, filename in zip(partition.images, partition.labels.tolist(), partition.names, strict=True):
            stem = filename.removeprefix(f"{LABELS[label]}/")
            if problem := name_problem(stem):
                raise DataError(f"{data.source}, {name}/{filename}: {problem}")
            yield NamedImage(name, label, stem, image)


def _counted(images: list[NamedImage], progress: Progress | None) -> Iterator[NamedImage]:
    for done, image in enumerate(images, start=1):
        yield image
        if progress is not None:
            progress(done, len(images))


def _check_distinguishable(data: Fer2013, images: list[NamedImage]) -> None:
    """Refuses pictures whose file names would not lead back to their partitions."""
    tests = [image for image in images if image.partition != TRAINING]
    reported = partitions_by_name([image.stem for image in tests])
    for image, partition in zip(tests, reported, strict=True):
        if image.partition != partition:
            raise DataError(
                f"{data.source} has the picture {image.stem} in {image.partition}, but as a file of test/ it would "
                f"be read as {partition}: pictures must be named PublicTest_* or PrivateTest_*"
                f"{', or not so in ' + TEST if image.partition == TEST else ''}. Convert to a CSV instead"
            )


def _names_are_made(images: list[NamedImage]) -> bool:
    counts = dict.fromkeys(PARTITIONS, 0)
    for image in images:
        if image.stem != made_name(image.partition, counts[image.partition]):
            return False
        counts[image.partition] += 1
    return True


class NamedImage(NamedTuple):
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


def write_folder(folder: Path, images: Iterable[NamedImage]) -> None:
    """Writes ``train/<class>/x.png`` and ``test/<class>/x.png``."""
    folder.mkdir()
    for image in images:
        file = folder / _file_of(image)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_png(image))


def write_zip(path: Path, images: Iterable[NamedImage]) -> None:
    """Writes a zip with the same entries; stored, since a PNG is compressed already."""
    with zipfile.ZipFile(path, "x") as archive:
        for image in images:
            archive.writestr(_zip_info(_file_of(image)), _png(image))


def write_table(path: Path, images: Iterable[NamedImage], data_format: str, *, names: bool) -> None:
    """Writes a CSV.

    Args:
        path: Where to.
        images: The rows, in their order.
        data_format: ``csv`` or ``icml.csv``, with ``.gz`` or ``.zip`` behind it where it is to be packed.
        names: Add the column ``name``.
    """
    table = data_format.removesuffix(".gz").removesuffix(".zip")
    columns = _COLUMNS[table]
    with _opened(path, data_format, "fer2013.csv" if table == "csv" else "icml_face_data.csv") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow((*columns, "name") if names else columns)
        for image in images:
            values = {
                "emotion": str(image.label),
                "pixels": " ".join(map(_NUMBERS.__getitem__, image.image.tobytes())),
                "Usage": image.partition,
            }
            row = [values[column.strip()] for column in columns]
            rows.writerow([*row, image.stem] if names else row)


@contextmanager
def _opened(path: Path, data_format: str, entry: str) -> Iterator[IO[str]]:
    """Opens a text stream that packs as the form says."""
    with ExitStack() as stack:
        raw: IO[bytes] = stack.enter_context(path.open("xb"))
        if data_format.endswith(".gz"):
            raw = cast(IO[bytes], stack.enter_context(gzip.GzipFile("", "wb", 6, raw, mtime=0)))
        elif data_format.endswith(".zip"):
            archive = stack.enter_context(zipfile.ZipFile(raw, "w"))
            raw = stack.enter_context(archive.open(_zip_info(entry, zipfile.ZIP_DEFLATED), "w"))
        yield stack.enter_context(io.TextIOWrapper(raw, encoding="utf-8", newline=""))


def _file_of(image: NamedImage) -> str:
    top = "train" if image.partition == TRAINING else "test"
    return f"{top}/{LABELS[image.label]}/{image.stem}.png"


def _png(image: NamedImage) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.image).save(buffer, "PNG")
    return buffer.getvalue()


def _zip_info(name: str, compression: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _ZIP_TIME)
    info.compress_type = compression
    info.external_attr = 0o644 << 16
    return info


def check_target(target: Path, data_format: str, overwrite: bool) -> None:
    """Refuses a target that cannot or may not be written, before a minute of reading.

    Args:
        target: A file, or a folder where that is the format.
        data_format: One of ``DATA_FORMATS``.
        overwrite: Whether it may be replaced; a folder only if it holds nothing but ``train`` and ``test``.

    Raises:
        OutputError: It may not be written.
    """
    check_writable(
        target,
        overwrite,
        is_folder=data_format == "folder",
        replaceable=lambda name: name in FOLDERS or is_junk(name),
    )
