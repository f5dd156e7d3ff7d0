"""Writes FER-2013 in any of the forms that the reader knows, losslessly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fer_deploy.data.fer2013 import PARTITIONS, TEST, TRAINING, Fer2013, Progress
from fer_deploy.data.pictures import told_partitions
from fer_deploy.data.rows import name_problem
from fer_deploy.data.table import made_name
from fer_deploy.data.target import check_target
from fer_deploy.data.writers import Picture, write_folder, write_table, write_zip
from fer_deploy.errors import DataError, UsageError
from fer_deploy.files import written_whole
from fer_deploy.labels import LABELS

FORMS: Final = ("folder", "zip", "csv", "csv.gz", "csv.zip", "icml.csv", "icml.csv.gz", "icml.csv.zip")
"""What ``convert`` writes; ``icml`` has the column order and spelling of icml_face_data.csv."""


def guess_form(target: Path) -> str:
    """Tells from a path what is to be written there.

    Raises:
        UsageError: The path does not tell.
    """
    name = target.name.lower()
    if target.is_dir() or "." not in name:
        return "folder"
    table = "icml.csv" if "icml" in name else "csv"
    for suffix, form in ((".csv.gz", f"{table}.gz"), (".csv.zip", f"{table}.zip"), (".csv", table), (".zip", "zip")):
        if name.endswith(suffix):
            return form
    raise UsageError(f"{target} does not tell what to write there: add --form with one of {', '.join(FORMS)}")


def convert(
    data: Fer2013,
    target: str | Path,
    *,
    form: str | None = None,
    overwrite: bool = False,
    names: bool = True,
    progress: Progress | None = None,
) -> str:
    """Writes a data set; pixels, labels, partitions and names come back the same from ``load_fer2013``.

    Args:
        data: What to write.
        target: Where to.
        form: One of ``FORMS``; guessed from the target without it.
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
    form = form or guess_form(target)
    if form not in FORMS:
        raise UsageError(f"The form {form!r} is unknown; it must be one of {', '.join(FORMS)}")
    check_target(target, folder=form == "folder", overwrite=overwrite)
    pictures = list(_pictures(data))
    if form in ("folder", "zip"):
        _check_told_apart(data, pictures)
    counted = _counted(pictures, progress)
    with written_whole(target) as partial:
        if form == "folder":
            write_folder(partial, counted)
        elif form == "zip":
            write_zip(partial, counted)
        else:
            write_table(partial, counted, form, names=names and not _names_are_made(pictures))
    return form


def _pictures(data: Fer2013) -> Iterator[Picture]:
    for name in PARTITIONS:
        if name not in data.partitions:
            continue
        partition = data.partitions[name]
        for image, label, picture in zip(partition.images, partition.labels.tolist(), partition.names, strict=True):
            stem = picture.removeprefix(f"{LABELS[label]}/")
            if problem := name_problem(stem):
                raise DataError(f"{data.source}, {name}/{picture}: {problem}")
            yield Picture(name, label, stem, image)


def _counted(pictures: list[Picture], progress: Progress | None) -> Iterator[Picture]:
    for done, picture in enumerate(pictures, start=1):
        yield picture
        if progress is not None:
            progress(done, len(pictures))


def _check_told_apart(data: Fer2013, pictures: list[Picture]) -> None:
    """Refuses pictures whose file names would not lead back to their partitions."""
    tests = [picture for picture in pictures if picture.partition != TRAINING]
    told = told_partitions([picture.stem for picture in tests])
    for picture, partition in zip(tests, told, strict=True):
        if picture.partition != partition:
            raise DataError(
                f"{data.source} has the picture {picture.stem} in {picture.partition}, but as a file of test/ it would "
                f"be read as {partition}: pictures must be named PublicTest_* or PrivateTest_*"
                f"{', or not so in ' + TEST if picture.partition == TEST else ''}. Convert to a CSV instead"
            )


def _names_are_made(pictures: list[Picture]) -> bool:
    counts = dict.fromkeys(PARTITIONS, 0)
    for picture in pictures:
        if picture.stem != made_name(picture.partition, counts[picture.partition]):
            return False
        counts[picture.partition] += 1
    return True
