from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.errors import OutputError
from fer_deploy.images.sources import Source
from fer_deploy.inference.prediction import COLUMNS, Prediction, prediction_of, row_of
from fer_deploy.inference.sinks.resume import Match, by_image, csv_rows, json_rows
from fer_deploy.inference.sinks.text import table_sink

CHANCES = np.array([0.1, 0.0000012345678, 0.2, 0.3, 0.05, 0.05, 0.3], np.float32)


def face(path: str, number: int, frame: int | None = None) -> Prediction:
    one = Prediction.of(path, CHANCES)
    return Prediction(
        *(one.path, one.emotion, one.confidence, one.probabilities),
        face=number,
        box=(1.0, 2.0, 30.0, 40.0),
        face_score=0.75,
        time_s=None if frame is None else frame / 8,
        frame=frame,
        track=None if frame is None else 3,
    )


ROWS = [
    Prediction.of('comma, quote " and\nnew\r\nline.png', CHANCES),
    Prediction.failed("bad.png", "damaged (a, b)"),
    Prediction.of_no_face("ümlaut 表情.jpg"),
    face("two.jpg", 0),
    face("two.jpg", 1),
    face("clip.mp4", 0, frame=0),
    face("clip.mp4", 0, frame=8),
    Prediction.failed("clip.mp4", "truncated"),
    Prediction.of("last.png", CHANCES),
]
GROUPS = [1, 1, 1, 2, 3, 1]


def write(path: Path, rows: list[Prediction] = ROWS) -> bytes:
    with table_sink(str(path)) as sink:
        for row in rows:
            sink.write(row)
    return path.read_bytes()


def read(path: Path) -> list[tuple[list[Prediction], int]]:
    return list(by_image((csv_rows if path.suffix == ".csv" else json_rows)(path)))


def test_a_row_becomes_its_prediction_again() -> None:
    for row in ROWS:
        cells = row_of(row)
        assert tuple(cells) == COLUMNS
        assert row_of(prediction_of(cells)) == cells
        assert row_of(prediction_of({name: "" if cell is None else str(cell) for name, cell in cells.items()})) == cells


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_table_cut_anywhere_gives_its_whole_pictures(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    whole = write(path)
    groups = read(path)
    assert [len(rows) for rows, _ in groups] == GROUPS
    assert [row_of(row) for rows, _ in groups for row in rows] == [row_of(row) for row in ROWS]
    assert groups[-1][1] == len(whole)
    ends = [end for _, end in groups]
    for cut in sorted({*range(0, len(whole), 17), *(end + step for end in ends for step in (-2, -1, 0, 1))}):
        path.write_bytes(whole[:cut])
        found = read(path)
        assert [end for _, end in found] == [end for end in ends if end <= cut][: len(found)]
        missing = sum(end <= cut for end in ends) - len(found)
        assert missing in (0, 1)
        # only what may have had more rows is done again though all of it is there
        assert not missing or GROUPS[len(found)] > 1


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_bytes_of_a_lost_page_end_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    whole = write(path)
    ends = [end for _, end in read(path)]
    path.write_bytes(whole[: ends[1]] + bytes(4096))
    assert [end for _, end in read(path)] == ends[:2]


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("name,mail\na,b\n")
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n')
    for path in tmp_path.iterdir():
        with pytest.raises(OutputError, match="no table of ours"):
            read(path)


def test_the_same_picture_given_twice_is_two_pictures() -> None:
    rows = [face("a", 0), face("a", 1), face("a", 0), Prediction.of("b", CHANCES), Prediction.of("b", CHANCES)]
    groups = list(by_image((row, None) for row in rows))
    assert [len(group) for group, _ in groups] == [2, 1, 1, 1]


def sources(*names: str) -> Iterator[Source]:
    return (Source(name, lambda: np.zeros((48, 48, 1), np.uint8)) for name in names)


def test_the_rest_begins_where_the_table_ends(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.png")
    match = Match("x.csv", sources("a", odd, "c", "d"))
    for path in ("a", "caf\\xe9.png"):
        match(path)
    assert [source.name for source in match.rest()] == ["c", "d"]
    assert (match.name("a"), match.name("caf\\xe9.png")) == ("a", odd)


def test_a_removed_file_keeps_its_rows_and_an_added_one_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
    a, b, c = (str(tmp_path / name) for name in "abc")
    gone = str(tmp_path / "az")
    match = Match("x.csv", sources(a, b, c))
    for path in (a, gone, b):
        match(path)
    assert [source.name for source in match.rest()] == [c]
    at_the_end = Match("x.csv", sources(a))
    for path in (a, gone):
        at_the_end(path)
    assert list(at_the_end.rest()) == []
    added = Match("x.csv", sources(a, b))
    added(a)
    with pytest.raises(OutputError, match=r"x\.csv cannot be resumed: its picture 2 is '.*c', and now '.*b' comes"):
        added(c)
    unsure = Match("x.csv", sources(a))
    with pytest.raises(OutputError, match="cannot be resumed"):
        unsure(f"{tmp_path}/old.zip/x.png")
