"""Studies: what a run changes in its base recipe, the table, and one real study of the smallest size."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.data.probe import probe_images
from fer_deploy.errors import OutputError, TrainingError
from fer_deploy.training.study import COLUMNS, find_row, load_study, read_table, write_table

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "train/studies").glob("*.toml"))
BASE = """
max_images = 60
precision = "float32"
[model]
widths = [2, 2, 2, 2]
dense_units = 4
[augmentation]
erase = 0.5
[[stage]]
epochs = 1
batch_size = 30
[[stage]]
epochs = 2
learning_rate = 0.001
augmentation = { rotation = 1.0, erase = 0.25 }
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "base.toml").write_text(BASE)
    return tmp_path / "mine.toml"


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_shipped_study_parses(path: Path) -> None:
    assert len({run.digest for run in load_study(path)}) == len(load_study(path))


def test_a_run_changes_single_keys(study: Path) -> None:
    study.write_text(
        'base = "base.toml"\nseeds = [3, 4]\n[[run]]\nname = "plain"\n[[run]]\nname = "other"\nseeds = [5]\n'
        "max_images = 9\n[run.model]\ndense_units = 8\n[run.augmentation]\nerase = 0.0\n[run.stage]\nbatch_size = 10\n"
    )
    plain, again, other = load_study(study)
    assert [(run.name, run.recipe.seed, run.base) for run in (plain, again)] == [
        ("plain", seed, "base") for seed in (3, 4)
    ]
    assert plain.differs == "nothing"
    assert plain.digest != again.digest
    assert [stage.augmentation.erase for stage in plain.recipe.stages] == [0.5, 0.25]
    assert other.differs == "max_images = 9; model.dense_units = 8; augmentation.erase = 0.0; stage.batch_size = 10"
    assert (other.recipe.seed, other.recipe.max_images) == (5, 9)
    assert (other.recipe.model.dense_units, other.recipe.model.widths) == (8, (2, 2, 2, 2))
    assert [stage.batch_size for stage in other.recipe.stages] == [10, 10]
    assert [stage.learning_rate for stage in other.recipe.stages] == [0.05, 0.001]
    assert [stage.augmentation.erase for stage in other.recipe.stages] == [0, 0]
    assert [stage.augmentation.rotation for stage in other.recipe.stages] == [14, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[run]]\nname = 'a'\n", "needs base"),
        ("base = 'base.toml'\n", r"at least one \[\[run\]\]"),
        ("base = 'base.toml'\nseed = 3\n[[run]]\nname = 'a'\n", "no key 'seed' in a study"),
        ("base = 'base.toml'\n[[run]]\nname = 'a/b'\n", "run's name is 'a/b'"),
        ("base = 'base.toml'\n[[run]]\nname = 'a'\n[[run]]\nname = 'a'\n", "two runs have the name 'a' and the seed 0"),
        ("base = 'base.toml'\nseeds = ['x']\n[[run]]\nname = 'a'\n", "a seed is 'x'"),
        ("base = 'base.toml'\n[[run]]\nname = 'a'\n[run.stage]\nepoch = 3\n", "no key 'epoch' in Stage"),
        ("base = 'base.toml'\n[[run]]\nname = 'a'\nstage = 3\n", "stage is 3, expected a table"),
    ],
)
def test_a_wrong_study(study: Path, text: str, message: str) -> None:
    study.write_text(text)
    with pytest.raises(TrainingError, match=rf"mine\.toml is wrong: .*{message}"):
        load_study(study)


def test_rows_from_elsewhere_stay(tmp_path: Path, study: Path) -> None:
    study.write_text('base = "base.toml"\n[[run]]\nname = "plain"\n')
    (run,) = load_study(study)
    table = tmp_path / "results/table.csv"
    known = dict.fromkeys(COLUMNS, "") | {"study": "before", "run": "wide, padded", "public_best": "0.618"}
    mine = dict.fromkeys(COLUMNS, "") | {"study": "mine", "run": "plain", "seed": "0", "settings_sha256": run.digest}
    write_table(table, [known, mine])
    assert read_table(table) == [known, mine]
    assert "| before | wide, padded |  |  |  |  |  | 61.80 % |  |  |  |  |\n" in table.with_suffix(".md").read_text()
    assert find_row(read_table(table), "mine", run) == mine
    assert find_row(read_table(table), "other", run) is None
    with pytest.raises(TrainingError, match="'plain' of mine with seed 0 and other settings"):
        find_row([mine | {"settings_sha256": "0" * 16}], "mine", run)
    table.write_text("a,b\n1,2\n")
    with pytest.raises(OutputError, match="other columns"):
        read_table(table)


def test_a_study_from_end_to_end(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trains once, leaves out what is done, and looks at PrivateTest only when told to."""
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed: pip install 'fer-deploy[train]'")
    study.write_text('base = "base.toml"\n[[run]]\nname = "tiny"\n')
    images = probe_images()[:80, :, :, 0]
    usage = ["Training"] * 60 + ["PublicTest"] * 10 + ["PrivateTest"] * 10
    rows = [f"{n % 7},{' '.join(map(str, image.ravel()))},{usage[n]}" for n, image in enumerate(images)]
    (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n")
    table = tmp_path / "table.csv"
    script = runpy.run_path(str(ROOT / "train/study.py"))

    def call(*options: str) -> tuple[dict[str, str], str]:
        line = ["train/study.py", str(study), "--data", str(tmp_path / "fer2013.csv"), "--results", str(table)]
        monkeypatch.setattr(sys, "argv", [*line, "--output", str(tmp_path / "runs"), *options])
        script["main"]()
        (row,) = read_table(table)
        return row, capsys.readouterr().out

    first, told = call()
    assert told.count("public ") == 3
    assert (first["study"], first["run"], first["seed"], first["epochs"]) == ("mine", "tiny", "0", "3")
    assert first["private"] == ""
    assert float(first["public_best"]) >= float(first["public_last"])
    assert "| mine | tiny | base: nothing | 0 | 3 |" in table.with_suffix(".md").read_text()
    again, told = call()
    assert again == first
    assert "done" in told
    final, told = call("--final")
    assert "epoch" not in told
    assert final == {**first, "private": final["private"]}
    assert float(final["private"]) in np.linspace(0, 1, 11).round(6)
    assert call("--final")[0] == final
