from __future__ import annotations

from pathlib import Path

import pytest

from fer_deploy.data.convert import check_target
from fer_deploy.errors import OutputError
from fer_deploy.system.files import written_whole


def refusal(target: Path, data_format: str, *, overwrite: bool = True) -> str:
    with pytest.raises(OutputError) as caught:
        check_target(target, data_format, overwrite)
    return str(caught.value)


def test_what_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder/train").mkdir(parents=True)
    assert "there is no folder" in refusal(tmp_path / "no/x.csv", "csv")
    assert "is not a folder" in refusal(tmp_path / "file", "folder")
    assert "it is a folder" in refusal(tmp_path / "folder", "csv")
    assert "exists already" in refusal(tmp_path / "folder", "folder", overwrite=False)
    assert "exists already" in refusal(tmp_path / "file", "csv", overwrite=False)
    check_target(tmp_path / "folder", "folder", overwrite=True)
    check_target(tmp_path / "file", "csv", overwrite=True)


def test_a_folder_with_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "home/train").mkdir(parents=True)
    (tmp_path / "home/thesis.tex").touch()
    said = refusal(tmp_path / "home", "folder")
    assert "(thesis.tex), so it is not replaced" in said


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_target(tmp_path / "empty", "folder", overwrite=False)
    with written_whole(tmp_path / "empty") as partial:
        partial.mkdir()
        (partial / "x").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["empty", "x"]
