"""Tables that are gone on with: whatever ended the run before, the table becomes that of one run."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.errors import OutputError
from fer_deploy.inference.prediction import Prediction, row_of
from fer_deploy.inference.sinks.parquet import ParquetSink
from fer_deploy.inference.sinks.resume import ResumeState, csv_rows, json_rows, path_of
from fer_deploy.inference.sinks.sink import Sink
from fer_deploy.inference.sinks.text import table_sink

pytest.importorskip("pyarrow")
SUFFIXES = [".csv", ".jsonl", ".parquet"]
SETTINGS = {"model": "tiny", "precision": "fp32"}


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ParquetSink, "_flush_rows", 70)


def row(index: int) -> Prediction:
    chances = np.random.default_rng(index).dirichlet(np.ones(7)).astype(np.float32)
    made = Prediction.of(f"{index // 3:04}.jpg", chances)
    if index % 3 == 0:  # of each three rows one is of a picture alone, the next two of another
        return Prediction.of(f"{index // 3:04}-alone.jpg", chances)
    box = (float(index), 2.0, 30.0, 40.0)
    return Prediction(*(made.path, made.emotion, made.confidence, made.probabilities), face=index % 3 - 1, box=box)


ROWS = [row(index) for index in range(900)]


def sink(path: Path, resume: bool = False) -> Sink:
    made = table_sink(str(path), resume=resume)
    made.resume_state = ResumeState(str(path), SETTINGS)
    return made


def begin(path: Path, upto: int) -> None:
    """Writes the first rows and is interrupted."""

    def interrupted() -> None:
        with sink(path) as table:
            for each in ROWS[:upto]:
                table.write(each)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def go_on(path: Path) -> int:
    """Goes on to the end as a run does; returns how many rows were there."""
    table = sink(path, resume=True)
    images: list[str] = []
    table.seek_resume_point(images.append)
    with table:
        before = list(table.existing_rows())
        assert list(dict.fromkeys(each.path for each in before)) == images
        for each in ROWS[len(before) :]:
            table.write(each)
    return len(before)


def content(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".parquet":
        from pyarrow.parquet import read_table

        return [{**each, **{name: round(each[name], 5) for name in ("happy", "confidence")}} for each in
                read_table(path).to_pylist()]  # fmt: skip
    return [dict(row_of(each)) for each, _ in (csv_rows if path.suffix == ".csv" else json_rows)(path)]


def whole(path: Path) -> list[dict[str, object]]:
    with table_sink(str(path)) as table:
        for each in ROWS:
            table.write(each)
    return content(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("upto", [0, 1, 2, 3, 500, 899, 900])
def test_after_an_interrupt(tmp_path: Path, suffix: str, upto: int) -> None:
    path = tmp_path / f"x{suffix}"
    begin(path, upto)
    assert path_of(str(path)).exists()
    before = go_on(path)
    assert upto - 2 <= before <= upto
    assert content(path) == whole(tmp_path / f"y{suffix}")
    assert sorted(each.name for each in tmp_path.iterdir()) == [f"x{suffix}", f"y{suffix}"]


def test_parquet_parts_are_readable_and_survive_a_kill_at_every_step(tmp_path: Path) -> None:
    from pyarrow import dataset

    path, parts = tmp_path / "x.parquet", tmp_path / "x.parquet.parts"
    expected = whole(tmp_path / "y.parquet")
    killed = sink(path)  # and never left, as by a kill
    killed.__enter__()
    for each in ROWS[:500]:
        killed.write(each)
    killed._close()
    assert len(list(parts.iterdir())) == 7
    assert dataset.dataset(parts).count_rows() == 490
    states = {"as it was": lambda: None}
    states["half of a part"] = lambda: (parts / "part-00007.parquet.partial").write_bytes(b"PAR1")
    states["a damaged last part"] = lambda: os.truncate(parts / "part-00006.parquet", 100)
    states["a damaged part in between"] = lambda: os.truncate(parts / "part-00003.parquet", 100)
    states["just begun"] = lambda: [each.unlink() for each in parts.iterdir()]
    for name, damage in states.items():
        shutil.copytree(parts, tmp_path / "kept")
        damage()
        go_on(path)
        assert content(path) == expected, name
        assert not parts.exists()
        path.unlink()
        (tmp_path / "kept").rename(parts)
    # made whole, and killed before the parts were gone
    shutil.copytree(parts, tmp_path / "kept")
    go_on(path)
    (tmp_path / "kept").rename(parts)
    assert go_on(path) >= 898
    assert content(path) == expected


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """No file may grow beyond a limit, in bytes: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_gets_full_costs_no_row(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    expected = whole(tmp_path / f"y{suffix}")

    def run() -> None:
        with sink(path) as table:
            for each in ROWS:
                table.write(each)

    limit = (tmp_path / f"y{suffix}").stat().st_size * 2 // 3
    with small_files(limit), pytest.raises(OutputError, match=r"cannot write to .*: file too large"):
        run()
    assert go_on(path) >= 500
    assert content(path) == expected


def test_other_settings_are_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    begin(path, 100)
    before = path.read_bytes()
    ResumeState(str(path), SETTINGS).check()
    with pytest.raises(OutputError, match="was begun with precision fp32, and now it is int8; give the same"):
        ResumeState(str(path), SETTINGS | {"precision": "int8"}).check()
    with pytest.raises(OutputError, match="begun with face not given"):
        ResumeState(str(path), SETTINGS | {"face": "detect"}).check()
    path_of(str(path)).write_text("[")
    with pytest.raises(OutputError, match="cannot be read"):
        ResumeState(str(path), SETTINGS).check()
    with pytest.raises(OutputError, match="add --resume to go on with it, or add --overwrite"):
        table_sink(str(path))
    assert path.read_bytes() == before


def test_overwriting_begins_anew(tmp_path: Path) -> None:
    for suffix in (".csv", ".jsonl"):
        path = tmp_path / f"x{suffix}"
        begin(path, 100)
        with suppress(OutputError), table_sink(str(path), overwrite=True) as table:
            table.write(ROWS[0])
        assert len(content(path)) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_only_one_run_writes_a_table(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    with sink(path) as table:
        for each in ROWS[:500]:
            table.write(each)
        second = sink(path, resume=True)
        second.seek_resume_point(lambda name: None)
        for other in (second, table_sink(str(path), overwrite=True)):
            with pytest.raises(OutputError, match="is being written by another run"), other:
                pass
        for each in ROWS[500:]:
            table.write(each)
    assert content(path) == whole(tmp_path / f"y{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_where_nothing_can_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert len(whole(tmp_path / f"x{suffix}")) == 900
