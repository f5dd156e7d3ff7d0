"""What is written takes its place whole, or what was there stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from fer_deploy.errors import OutputError
from fer_deploy.system.files import check_writable, written_whole


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").touch()

    def fail() -> None:
        with written_whole(tmp_path / "out") as partial:
            partial.mkdir()
            (partial / "no" / "such").touch()

    with pytest.raises(OutputError, match="out cannot be written: No such file"):
        fail()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["old", "out"]


def test_a_failure_to_take_the_place_brings_the_old_one_back(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").touch()
    with pytest.raises(OutputError, match="out cannot be written: No such file"), written_whole(tmp_path / "out"):
        pass  # nothing was written, so nothing can be renamed
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["old", "out"]


def test_a_place_below_a_file_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="out cannot be written"), written_whole(tmp_path / "file/out") as partial:
        partial.mkdir()


def test_a_file_never_takes_a_folders_place(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").touch()
    with pytest.raises(OutputError, match="out cannot be written"), written_whole(tmp_path / "out") as partial:
        partial.touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["old", "out"]
    with pytest.raises(OutputError, match="it is a folder"):
        check_writable(tmp_path / "out")
    with pytest.raises(OutputError, match="it is a folder"), written_whole(Path()):
        pass
