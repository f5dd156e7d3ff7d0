from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_deploy.data.convert import DATA_FORMATS, convert, guess_data_format
from fer_deploy.data.fer2013 import PUBLIC, TEST, TRAINING, Fer2013, Partition
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.errors import DataError, OutputError, UsageError
from fer_deploy.labels import LABELS

NAMES = {
    "folder": "out", "zip": "out.zip", "csv": "out.csv", "csv.gz": "out.csv.gz", "csv.zip": "out.csv.zip",
    "icml.csv": "icml_face_data.csv", "icml.csv.gz": "icml_face_data.csv.gz", "icml.csv.zip": "icml_face_data.csv.zip",
}  # fmt: skip


def data_set(labels: list[int], partition: str = TRAINING, names: tuple[str, ...] = ()) -> Fer2013:
    rng = np.random.default_rng(len(labels))
    made = names or tuple(f"{partition}_{position:05d}" for position in range(len(labels)))
    images = rng.integers(0, 256, (len(labels), 48, 48), np.uint8)
    return Fer2013(Path("made"), "csv", {partition: Partition(images, np.array(labels, np.uint8), made)})


def content(data: Fer2013) -> list[tuple[str, tuple[str, ...], bytes, bytes]]:
    return [(name, part.names, part.labels.tobytes(), part.images.tobytes()) for name, part in data.partitions.items()]


@pytest.mark.parametrize("data_format", DATA_FORMATS)
def test_every_form_can_be_guessed_and_comes_back_the_same(data_format: str, tmp_path: Path, every_variant) -> None:
    data = load_fer2013(every_variant["zip"])
    target = tmp_path / NAMES[data_format]
    assert guess_data_format(target) == data_format
    assert convert(data, target) == data_format
    assert content(load_fer2013(target)) == content(data)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize("data_format", DATA_FORMATS)
def test_the_same_data_gives_the_same_bytes(data_format: str, tmp_path: Path) -> None:
    data = data_set([3, 4, 3])
    for target in (tmp_path / "one", tmp_path / "two"):
        convert(data, target, data_format=data_format)
    if data_format != "folder":
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_from_form_to_form_nothing_is_lost(tmp_path: Path, write_folder, files: dict[str, bytes]) -> None:
    numbered = {}
    for number, (name, file) in enumerate(files.items()):
        folder, _, stem = name.rpartition("/")
        numbered[f"{folder}/{stem[:-4].rstrip('0123456789')}{number % 3}{'é' * (number % 3)}, x.png"] = file
    first = load_fer2013(write_folder(numbered))
    assert any(name.startswith("angry/") for name in first.partition(TRAINING).names)
    previous = tmp_path / "unpacked"
    for data_format in ("csv", "zip", "icml.csv.gz", "folder"):
        target = tmp_path / NAMES[data_format]
        convert(load_fer2013(previous), target)
        previous = target
    assert content(load_fer2013(previous)) == content(first)
    written = {path.relative_to(previous).as_posix() for path in previous.rglob("*.png")}
    assert written == set(numbered)


@given(labels=st.lists(st.integers(0, 6), min_size=1, max_size=12), order=st.randoms(use_true_random=False))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
def test_any_labels_and_names_come_back(tmp_path: Path, labels: list[int], order) -> None:
    names = sorted(
        order.sample([f"{word}{number}" for word in ("a", "B.c", "d e", "ü,\"'") for number in range(3)], 12)
    )
    data = data_set(labels, names=tuple(names[: len(labels)]))
    for data_format in DATA_FORMATS:
        convert(data, tmp_path / data_format, data_format=data_format, overwrite=True)
        assert content(load_fer2013(tmp_path / data_format)) == content(data)


def test_plain_columns_where_names_are_the_ones_the_reader_makes(tmp_path: Path) -> None:
    convert(data_set([0, 6]), tmp_path / "x.csv")
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert lines[0] == "emotion,pixels,Usage"
    assert lines[2].startswith("6,")
    assert lines[2].endswith(",Training")
    convert(data_set([0, 6]), tmp_path / "icml_face_data.csv")
    assert (tmp_path / "icml_face_data.csv").read_text().splitlines()[0] == "emotion, Usage, pixels"


def test_names_get_a_column_of_their_own_unless_not_wanted(tmp_path: Path) -> None:
    data = data_set([0, 6], names=("a", "b"))
    convert(data, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text().startswith("emotion,pixels,Usage,name\n")
    convert(data, tmp_path / "y.csv", names=False)
    assert (tmp_path / "y.csv").read_text().startswith("emotion,pixels,Usage\n")
    assert load_fer2013(tmp_path / "y.csv").partition(TRAINING).names == ("Training_00000", "Training_00001")


def test_packed_forms_are_packed(tmp_path: Path) -> None:
    data = data_set([1])
    convert(data, tmp_path / "x.csv.gz")
    assert gzip.decompress((tmp_path / "x.csv.gz").read_bytes()).startswith(b"emotion,pixels,Usage\n1,")
    convert(data, tmp_path / "x.csv.zip")
    assert zipfile.ZipFile(tmp_path / "x.csv.zip").namelist() == ["fer2013.csv"]
    convert(data, tmp_path / "x.zip")
    assert zipfile.ZipFile(tmp_path / "x.zip").namelist() == ["train/disgust/Training_00000.png"]


@pytest.mark.parametrize("data_format", ["folder", "zip"])
@pytest.mark.parametrize(("partition", "name"), [(PUBLIC, "x"), (TEST, "PublicTest_1"), (PUBLIC, "PrivateTest_1")])
def test_a_partition_that_file_names_could_not_tell_is_refused(
    data_format: str, partition: str, name: str, tmp_path: Path
) -> None:
    data = data_set([2], partition, (name,))
    with pytest.raises(DataError, match=f"has the picture {name} in {partition}, .* be read as .* to a CSV instead"):
        convert(data, tmp_path / "out", data_format=data_format)
    assert not list(tmp_path.iterdir())
    convert(data, tmp_path / "out.csv")
    assert content(load_fer2013(tmp_path / "out.csv")) == content(data)


def test_a_name_that_leads_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Training/../../x: its name '../../x' cannot be a plain file name"):
        convert(data_set([2], names=("../../x",)), tmp_path / "out")


def test_unknown_forms(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x.parquet does not tell what to write there: add --form with one of folder"):
        convert(data_set([1]), tmp_path / "x.parquet")
    with pytest.raises(UsageError, match="The form 'xml' is unknown; it must be one of folder, zip, csv"):
        convert(data_set([1]), tmp_path / "x.csv", data_format="xml")


def test_progress_counts_pictures(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    convert(data_set([1, 2, 3]), tmp_path / "x.zip", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_nothing_is_left_when_writing_stops(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for data_format in DATA_FORMATS:
        with pytest.raises(KeyboardInterrupt):
            convert(data_set([1, 2]), tmp_path / "out", data_format=data_format, progress=stop)
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays_unless_told(tmp_path: Path) -> None:
    data, other = data_set([1]), data_set([2, 3])
    for data_format in DATA_FORMATS:
        target = tmp_path / NAMES[data_format]
        convert(data, target, data_format=data_format)
        with pytest.raises(OutputError, match="exists already; choose another name or add --overwrite"):
            convert(other, target, data_format=data_format)
        assert content(load_fer2013(target)) == content(data)
        convert(other, target, data_format=data_format, overwrite=True)
        assert content(load_fer2013(target)) == content(other)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES.values())


def test_all_classes_are_written(tmp_path: Path) -> None:
    convert(data_set(list(range(7))), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out/train").iterdir()) == sorted(LABELS)
    assert not (tmp_path / "out/test").exists()
