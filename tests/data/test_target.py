from __future__ import annotations

from pathlib import Path

import pytest

from fer_deploy.data.convert import check_target
from fer_deploy.errors import OutputError
from fer_deploy.system.files import written_whole


def refusal(target: Path, *, folder: bool, overwrite: bool = True) -> str:
    with pytest.raises(OutputError) as caught:
        check_target(target, folder=folder, overwrite=overwrite)
    return str(caught.value)


def test_what_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder/train").mkdir(parents=True)
    assert "there is no folder" in refusal(tmp_path / "no/x.csv", folder=False)
    assert "file is a file, and a folder is to be written" in refusal(tmp_path / "file", folder=True)
    assert "folder is a folder, and a file is to be written" in refusal(tmp_path / "folder", folder=False)
    assert "exists already" in refusal(tmp_path / "folder", folder=True, overwrite=False)
    assert "exists already" in refusal(tmp_path / "file", folder=False, overwrite=False)
    check_target(tmp_path / "folder", folder=True, overwrite=True)
    check_target(tmp_path / "file", folder=False, overwrite=True)


def test_a_folder_with_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "home/train").mkdir(parents=True)
    (tmp_path / "home/thesis.tex").touch()
    said = refusal(tmp_path / "home", folder=True)
    assert "home holds other things than train and test (thesis.tex), so it will not be replaced" in said


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_target(tmp_path / "empty", folder=True, overwrite=False)
    with written_whole(tmp_path / "empty") as partial:
        partial.mkdir()
        (partial / "x").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["empty", "x"]
