from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.errors import OutputError, UsageError
from fer_deploy.inference.prediction import COLUMNS, Prediction
from fer_deploy.inference.run import printable
from fer_deploy.inference.sinks.sink import FLUSH_ROWS
from fer_deploy.inference.sinks.text import CsvSink, JsonLinesSink, table_sink
from fer_deploy.labels import LABELS

PROBABILITIES = np.array([0.1, 0.0000012345678, 0.2, 0.3, 0.05, 0.05, 0.3], np.float32)
NAMES = [
    "plain.png",
    'quote " comma , semicolon ;.png',
    "new\nline.png",
    "carriage\rreturn.png",
    "tab\t and space .png",
    "ümlaut 表情 😀.png",
    os.fsdecode(b"caf\xe9.png"),
    "=1+1.png",
    "\\x41.png",
]
STORED = [name if "caf" not in name else "caf\\xe9.png" for name in NAMES]


def rows() -> list[Prediction]:
    good = [Prediction.of(name, PROBABILITIES) for name in NAMES]
    return [*good, Prediction.failed("bad.png", "damaged image (OSError: a, b)")]


def write(path: Path, overwrite: bool = False) -> None:
    with table_sink(str(path), overwrite) as sink:
        for prediction in rows():
            sink.write(prediction)


def test_the_columns_are_the_documented_ones() -> None:
    documented = (
        *("path", "face", "emotion", "confidence", "status", "reason", "angry", "disgust", "fear", "happy", "sad"),
        *("surprise", "neutral", "x", "y", "width", "height", "face_score", "time_s", "frame", "track"),
    )
    assert documented == COLUMNS


def test_csv(tmp_path: Path) -> None:
    write(tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        found = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS
    assert [row["path"] for row in found] == [*STORED, "bad.png"]
    first, last = found[0], found[-1]
    assert (first["emotion"], first["status"], first["reason"], first["face"], first["x"]) == (
        "happy",
        "ok",
        "",
        "",
        "",
    )
    assert [np.float32(first[label]) for label in LABELS] == pytest.approx(PROBABILITIES, rel=1e-6)
    assert (last["status"], last["reason"]) == ("error", "damaged image (OSError: a, b)")
    assert {last[column] for column in ("emotion", "confidence", *LABELS)} == {""}


def test_json_lines(tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl")
    found = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [tuple(row) for row in found] == [COLUMNS] * len(rows())
    assert [row["path"] for row in found] == [*STORED, "bad.png"]
    assert found[0]["confidence"] == pytest.approx(0.3, rel=1e-6)
    assert found[0]["reason"] is None
    assert found[-1]["happy"] is None


def test_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "x.parquet")
    table = parquet.read_table(tmp_path / "x.parquet")
    assert tuple(table.column_names) == COLUMNS
    found = table.to_pylist()
    assert [row["path"] for row in found] == [*STORED, "bad.png"]
    assert [row[label] for row in found[:1] for label in LABELS] == pytest.approx(PROBABILITIES, rel=1e-6)
    assert found[-1]["confidence"] is None
    assert str(table.schema.field("happy").type) == "float"


FOUND = Prediction(
    *("clip.mp4", "happy", 0.75, (0.25, 0, 0, 0.75, 0, 0, 0)),
    **{"face": 1, "box": (-2.6, 10.4, 40.5, 51.0), "face_score": 0.9, "time_s": 3600.04, "frame": 90001, "track": 7},
)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_face_and_no_face_are_rows_of_the_same_table(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    with table_sink(str(path)) as sink:
        sink.write(FOUND)
        sink.write(Prediction.of_no_face("sea.jpg"))
    if suffix == ".parquet":
        from pyarrow.parquet import read_table

        face, none = read_table(path).to_pylist()
    elif suffix == ".jsonl":
        face, none = map(json.loads, path.read_text().splitlines())
    else:
        with path.open(newline="") as file:
            face, none = csv.DictReader(file)
    numbers = ("face", "x", "y", "width", "height", "frame", "track")
    assert [int(face[name]) for name in numbers] == [1, -3, 10, 40, 51, 90001, 7]
    assert [float(face[name]) for name in ("face_score", "time_s")] == [pytest.approx(0.9), 3600.04]
    assert {name for name in COLUMNS if none[name] not in ("", None)} == {"path", "status"}
    assert none["status"] == "no-face"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_an_interrupted_run_leaves_a_valid_table(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")

    def interrupted() -> None:
        with table_sink(str(path)) as sink:
            for _ in range(100):
                sink.write(rows()[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    if suffix == ".parquet":
        from pyarrow.parquet import read_table

        assert len(read_table(path)) == 100
    else:
        assert len(path.read_text().splitlines()) == 100 + (suffix == ".csv")


@pytest.mark.parametrize("kind", [CsvSink, JsonLinesSink])
def test_rows_are_written_as_they_come(tmp_path: Path, kind: type[CsvSink | JsonLinesSink]) -> None:
    with kind(str(tmp_path / "x")) as sink:
        for _ in range(FLUSH_ROWS):
            sink.write(rows()[0])
        assert len((tmp_path / "x").read_text().splitlines()) >= FLUSH_ROWS


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_an_existing_file_is_kept_unless_told(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"x{suffix}"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        table_sink(str(path))
    assert path.read_text() == "mine"
    write(path, overwrite=True)
    assert path.read_bytes() != b"mine"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    sink = table_sink(str(tmp_path / "x.csv"))
    (tmp_path / "x.csv").write_text("mine")
    with pytest.raises(OutputError, match="exists already"), sink:
        pass
    assert (tmp_path / "x.csv").read_text() == "mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_full_disk_is_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"cannot write to .*: no space left on device"):
        write(path, overwrite=True)


def test_where_nothing_can_lie(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for path in (tmp_path / "gone/x.csv", tmp_path / "folder.csv"):
        with pytest.raises(OutputError, match=r"there is no folder|it is a folder"):
            write(path, overwrite=True)


@pytest.mark.parametrize("target", ["x.xlsx", "x", "csv", ""])
def test_an_unknown_format(target: str) -> None:
    with pytest.raises(UsageError, match=r"must end in \.csv, \.jsonl or \.parquet"):
        table_sink(target)


def test_names_cannot_command_the_terminal() -> None:
    assert printable("a\x1b[2Jb\nc\u202ed") == "a\\x1b[2Jb\\nc\\u202ed"
    assert printable(os.fsdecode(b"caf\xe9 \xc3\xa9")) == "caf\\xe9 é"
