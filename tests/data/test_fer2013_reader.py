from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.data.fer2013 import PRIVATE, PUBLIC, TEST, TRAINING, Fer2013
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.errors import DataError
from fer_deploy.labels import LABELS

DATA_FORMATS = (
    "zip", "zip nested", "zip with junk", "zip in msgs", "zip of Windows", "folder", "folder nested", "csv",
    "csv with BOM and CRLF", "csv gzipped", "csv zipped", "csv in tar.gz", "icml", "icml zipped among others",
    "csv in a folder", "csv without suffix",
)  # fmt: skip


def content(data: Fer2013) -> dict[tuple[str, str, str], bytes]:
    return {
        (name, LABELS[label], filename): image.tobytes()
        for name, partition in data.partitions.items()
        for image, label, filename in zip(partition.images, partition.labels, partition.names, strict=True)
    }


def error(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_fer2013(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
def test_every_form_gives_the_same(data_format: str, every_variant: dict[str, Path], images) -> None:
    assert set(DATA_FORMATS) == set(every_variant)
    data = load_fer2013(every_variant[data_format])
    assert content(data) == {key: image.tobytes() for key, image in images.items()}
    assert list(data.partitions) == [TRAINING, PUBLIC, PRIVATE]
    assert [partition.names for partition in data.partitions.values()] == [
        tuple(sorted(name for partition, _, name in images if partition == wanted)) for wanted in data.partitions
    ]
    assert data.data_format == ("csv" if "csv" in data_format or "icml" in data_format else data_format.split()[0])
    assert data.skipped == ()
    assert data.partition(TRAINING).images.flags.writeable


@pytest.mark.parametrize("data_format", ["zip", "folder", "csv", "icml"])
def test_without_training_the_tests_stay_as_they_are(data_format: str, every_variant: dict[str, Path]) -> None:
    whole, tests = load_fer2013(every_variant[data_format]), load_fer2013(every_variant[data_format], tests_only=True)
    assert list(tests.partitions) == [PUBLIC, PRIVATE]
    for name, partition in tests.partitions.items():
        assert partition.names == whole.partitions[name].names
        assert partition.fingerprint() == whole.partitions[name].fingerprint()
    assert not [note for note in tests.notes if TRAINING in note]


def test_progress_ends_with_all_done(every_variant: dict[str, Path]) -> None:
    for data_format in ("zip", "folder", "csv", "csv gzipped", "csv zipped"):
        calls: list[tuple[int, int]] = []
        load_fer2013(every_variant[data_format], progress=lambda done, total, calls=calls: calls.append((done, total)))
        assert calls[-1][0] == calls[-1][1] > 0
        assert all(done <= total for done, total in calls)


def test_other_sizes_are_noted(every_variant: dict[str, Path]) -> None:
    notes = load_fer2013(every_variant["zip"]).notes
    assert notes == (
        "Training has 21 pictures, the published set 28,709",
        "PublicTest has 14 pictures, the published set 3,589",
        "PrivateTest has 7 pictures, the published set 3,589",
    )


def test_renamed_test_pictures_are_one_set(files: dict[str, bytes], write_zip: Callable[..., Path]) -> None:
    renamed = {name.replace("PublicTest_", "im").replace("PrivateTest_", "im9"): file for name, file in files.items()}
    data = load_fer2013(write_zip(renamed))
    assert list(data.partitions) == [TRAINING, TEST]
    assert len(data.partition(TEST)) == 21
    assert data.notes[0] == (
        "21 of 21 file names in test/ (the first: test/angry/im00000.png) say neither PublicTest nor PrivateTest: "
        "the test pictures are one set, Test"
    )
    assert "Test has 21 pictures, the published set 7,178" in data.notes
    with pytest.raises(
        DataError, match=r"no partition PublicTest, only .*don't tell the two test sets apart: use Test"
    ):
        data.partition(PUBLIC)


def test_names_used_by_several_classes_carry_their_class(files: dict[str, bytes], write_zip) -> None:
    numbers: dict[str, int] = {}
    renamed = {}
    for name, file in files.items():
        folder = name.rpartition("/")[0]
        renamed[f"{folder}/im{numbers.setdefault(folder, 0)}.png"] = file
        numbers[folder] += 1
    data = load_fer2013(write_zip(renamed))
    assert data.partition(TRAINING).names[:8] == (
        "angry/im0", "disgust/im0", "fear/im0", "happy/im0", "sad/im0", "surprise/im0", "neutral/im0", "angry/im1",
    )  # fmt: skip


@pytest.mark.parametrize(("kept", "missing"), [("train", PUBLIC), ("train", TEST), ("test", TRAINING)])
def test_a_missing_partition_is_told_when_it_is_needed(kept: str, missing: str, files, write_zip) -> None:
    data = load_fer2013(write_zip({name: file for name, file in files.items() if name.startswith(kept)}))
    assert any("is missing; the published set has" in note for note in data.notes)
    with pytest.raises(DataError, match=f"archive.zip has no partition {missing}, only .*; use a complete FER-2013"):
        data.partition(missing)


def test_test_is_public_and_private_together(every_variant: dict[str, Path]) -> None:
    data = load_fer2013(every_variant["zip"])
    both = data.partition(TEST)
    assert both.names == data.partition(PUBLIC).names + data.partition(PRIVATE).names
    assert np.array_equal(both.images[:14], data.partition(PUBLIC).images)


def test_a_validation_folder_is_noted(files: dict[str, bytes], write_zip, write_folder) -> None:
    more = files | {"validation/happy/x.png": files["train/happy/Training_00009.png"]}
    for path in (write_zip(more), write_folder(more)):
        assert "validation/ is not read: only train/ and test/ are" in load_fer2013(path).notes


def test_what_does_not_exist_or_is_empty(tmp_path: Path) -> None:
    assert error(tmp_path / "no.zip").endswith("no.zip does not exist; expected FER-2013 as a zip, a folder or a CSV")
    (tmp_path / "empty.zip").touch()
    assert "empty.zip is empty (0 bytes); expected FER-2013" in error(tmp_path / "empty.zip")
    (tmp_path / "folder").mkdir()
    assert "folder is not FER-2013: it holds nothing; expected train/<class>/" in error(tmp_path / "folder")


def test_what_is_not_fer2013(tmp_path: Path, files: dict[str, bytes], write_zip, write_csv, write_folder) -> None:
    assert "it holds a.txt, b/c.jpg; expected train/<class>/" in error(write_zip({"a.txt": b"x", "b/c.jpg": b"x"}))
    assert "first line is 'a,b', without emotion or pixels or usage. Expected Kaggle's" in error(write_csv(["a,b"]))
    assert "first line is 'emotion,pixels', without usage" in error(write_csv(["emotion,pixels"]))
    (tmp_path / "noise").write_bytes(b"\x89PNG" + bytes(100_000))
    assert "is not FER-2013: it has a line of more than 65,536 bytes" in error(tmp_path / "noise")
    assert "has no usable picture" in error(write_csv(["emotion,pixels,Usage"]))
    inside = write_folder({name.split("/", 1)[1]: file for name, file in files.items()}, "train")
    assert "looks like the inside of train/ or test/: give the folder above it" in error(inside)


def test_two_data_sets_in_one_place(files: dict[str, bytes], write_zip, write_folder) -> None:
    twice = {f"{top}/{name}": file for top in ("a", "b") for name, file in files.items()}
    for path in (write_zip(twice), write_folder(twice)):
        assert "holds more than one data set, in a/ and b/: unpack it and give one" in error(path)


def test_truncated_files(tmp_path: Path, every_variant: dict[str, Path]) -> None:
    for data_format in ("zip", "csv zipped", "csv gzipped", "csv in tar.gz"):
        whole = every_variant[data_format].read_bytes()
        cut = tmp_path / "cut"
        for share in (0.1, 0.5, 0.99):
            cut.write_bytes(whole[: int(len(whole) * share)])
            assert "cut is " in error(cut)
            assert "truncated or damaged" in error(cut)
            assert "Download or copy it again" in error(cut)


def test_a_truncated_csv_names_its_last_line(tmp_path: Path, every_variant: dict[str, Path]) -> None:
    whole = every_variant["csv"].read_bytes()
    (tmp_path / "cut.csv").write_bytes(whole[: len(whole) - 3000])
    assert "cut.csv, line 43: the line has 2 fields, expected 3" in error(tmp_path / "cut.csv")


def test_encrypted_zip(tmp_path: Path, every_variant: dict[str, Path]) -> None:
    for data_format in ("zip", "csv zipped"):
        raw = bytearray(every_variant[data_format].read_bytes())
        with zipfile.ZipFile(every_variant[data_format]) as archive:
            directory = archive.start_dir
        raw[directory + 8] |= 1  # the flag "encrypted" of the first entry in the central directory
        (tmp_path / "locked.zip").write_bytes(raw)
        assert "locked.zip is encrypted (" in error(tmp_path / "locked.zip")
        assert "unpack it with its password" in error(tmp_path / "locked.zip")


def test_bombs_are_refused(tmp_path: Path, files: dict[str, bytes], write_zip) -> None:
    bomb = write_zip({**files, "train/angry/bomb.png": bytes(50 << 20)}, "bomb.zip")
    assert "bomb.zip, train/angry/bomb.png: the file has 52,428,800 bytes, expected a 48x48 picture" in error(bomb)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"emotion,pixels,Usage\n" + bytes(50 << 20)))
    assert "it has a line of more than 65,536 bytes" in error(tmp_path / "bomb.gz")


def test_far_too_many_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_variant: dict[str, Path]
) -> None:
    monkeypatch.setattr("fer_deploy.data.fer2013.MAX_IMAGES", 20)
    monkeypatch.setattr("fer_deploy.data.csv._PROGRESS_ROWS", 1)
    for data_format in ("zip", "folder", "csv"):
        assert "is not FER-2013: it holds more than 20 pictures, expected 35,887" in error(every_variant[data_format])
    monkeypatch.undo()
    monkeypatch.setattr("fer_deploy.data.csv.MAX_TABLE_BYTES", 100_000)
    assert "it has more than 100,000 bytes" in error(every_variant["csv gzipped"])
    monkeypatch.setattr("fer_deploy.data.folder.MAX_TABLE_BYTES", 100_000)
    assert "some/data.csv unpacks to " in error(every_variant["csv zipped"])


def test_an_unreadable_folder(tmp_path: Path, every_variant: dict[str, Path]) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "loop cannot be read: Too many levels of symbolic links" in error(loop)


def test_all_bad_is_an_error_even_when_bad_is_skipped(write_csv) -> None:
    with pytest.raises(DataError, match="no usable picture; the first bad one is line 2: the line has 1 fields"):
        load_fer2013(write_csv(["emotion,pixels,Usage", "x", "y"]), skip_bad=True)
