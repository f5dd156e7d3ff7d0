"""A bundle appears whole or not at all, and never in the place of something else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fer_deploy.errors import ModelError, OutputError
from fer_deploy.exporting.exporter import check_output, new_folder


def entries(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_folder_appears_at_the_end(tmp_path: Path) -> None:
    output = tmp_path / "new" / "bundle"
    with new_folder(output) as folder:
        (folder / "a").write_text("1")
        assert not output.exists()
    assert entries(tmp_path) == ["new", "new/bundle", "new/bundle/a"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(output.stat().st_mode) == 0o777 & ~umask


@pytest.mark.parametrize("error", [ModelError("wrong"), KeyboardInterrupt()])
def test_error_leaves_nothing_behind(tmp_path: Path, error: BaseException) -> None:
    def fail(folder: Path) -> None:
        (folder / "a").write_text("1")
        raise error

    with pytest.raises(type(error)), new_folder(tmp_path / "bundle") as folder:
        fail(folder)
    assert entries(tmp_path) == []


def test_replaced_only_at_the_end(tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    output.mkdir()
    (output / "old").write_text("1")
    with pytest.raises(ModelError), new_folder(output):
        raise ModelError("wrong")
    assert entries(tmp_path) == ["bundle", "bundle/old"]
    with new_folder(output) as folder:
        (folder / "new").write_text("2")
    assert entries(tmp_path) == ["bundle", "bundle/new"]


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1")
    with pytest.raises(OutputError, match="cannot be written"), new_folder(tmp_path / "file" / "bundle"):
        pass


def test_full_disk_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left"), new_folder(tmp_path / "bundle"):
        raise OSError(28, "No space left on device")
    assert entries(tmp_path) == []


def test_free_places(tmp_path: Path) -> None:
    check_output(tmp_path / "bundle", overwrite=False)
    check_output(tmp_path, overwrite=False)  # an empty folder


def test_taken_place_needs_overwrite(tmp_path: Path) -> None:
    for name in ("bundle.json", "model.keras"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(OutputError, match="--overwrite"):
        check_output(tmp_path, overwrite=False)
    check_output(tmp_path, overwrite=True)


@pytest.mark.parametrize("names", [("photos",), ("bundle.json", "photos"), ("model.keras",)])
def test_what_is_not_ours_is_never_replaced(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(OutputError, match="holds other files"):
        check_output(tmp_path, overwrite=True)


def test_file_and_broken_link_are_no_places(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(OutputError, match="not a folder"):
            check_output(tmp_path / name, overwrite=True)


def test_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with new_folder(tmp_path / "link") as folder:
        (folder / "a").write_text("1")
    assert (tmp_path / "link").is_symlink()
    assert entries(tmp_path / "real") == ["a"]
