"""``fer-deploy train`` on a part of the real data: what it writes, and that being stopped changes nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from fer_deploy.data.fer2013 import PRIVATE, PUBLIC
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.training.checkpoint import FILE, Checkpoint

pytestmark = pytest.mark.fer2013

Train = Callable[..., subprocess.Popen[str]]


@dataclass(frozen=True)
class Finished:
    """What a training that was stopped by Ctrl-C, killed and resumed has left."""

    output: Path
    told_when_stopped: str
    printed: str

    @property
    def metrics(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads((self.output / "metrics.json").read_text()))


@pytest.fixture(scope="module")
def finished(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    output = tmp_path_factory.mktemp("train") / "stopped"
    process = train(output)
    _wait_for_epochs(output, 1, process)
    process.send_signal(signal.SIGINT)
    _, told_when_stopped = process.communicate(timeout=60)
    assert process.returncode == 130, told_when_stopped
    process = train(output, "--resume")
    _wait_for_epochs(output, 3, process)  # the second stage begins
    process.send_signal(signal.SIGKILL)
    process.communicate()
    process = train(output, "--resume", "--json")
    printed, err = process.communicate()
    assert process.returncode == 0, err
    return Finished(output, told_when_stopped, printed)


def test_it_writes_the_model_and_its_report(finished: Finished, part: Path) -> None:
    written = {path.name for path in finished.output.iterdir()}
    assert {"model.keras", "metrics.json", "report.md", "curves.png", "confusion.png"} <= written
    assert {"heatmap.png", "heatmap_mean_faces.png"} <= written
    metrics = finished.metrics
    assert [row["epoch"] for row in metrics["epochs"]] == [1, 2, 3, 4]
    assert metrics["summary"]["layers"] == 38
    sizes = {name: len(partition) for name, partition in load_fer2013(part).partitions.items()}
    assert {name: each["n"] for name, each in metrics["data"].items()} == sizes
    sizes = {PUBLIC: sizes[PUBLIC], PRIVATE: sizes[PRIVATE], "Test": sizes[PUBLIC] + sizes[PRIVATE]}
    assert {name: score["n"] for name, score in metrics["scores"].items()} == sizes
    unseen = metrics["without_copies"]
    assert {name: each["n"] + each["copies"] for name, each in unseen.items()} == sizes
    assert unseen["Test"]["copies"] > 0
    assert "## Without copies" in (finished.output / "report.md").read_text()


def test_json_on_stdout_is_one_object(finished: Finished) -> None:
    printed = json.loads(finished.printed)
    assert printed["schema"] == 1
    assert [row["split"] for row in printed["rows"]] == ["PublicTest", "PrivateTest", "Test"]


def test_it_learns(finished: Finished, part: Path) -> None:
    data = load_fer2013(part)
    labels = np.concatenate([data.partition(name).labels for name in (PUBLIC, PRIVATE)])
    most_frequent = np.bincount(labels).max() / len(labels)
    metrics = finished.metrics
    assert metrics["scores"]["Test"]["accuracy"] > most_frequent + 0.02
    losses = [row["loss"] for row in metrics["epochs"]]
    assert losses[-1] < losses[0]


def test_it_ends_with_the_weights_of_a_training_that_nothing_stopped(
    train: Train, finished: Finished, tmp_path: Path
) -> None:
    process = train(tmp_path / "whole")
    _wait_for_epochs(tmp_path / "whole", 4, process)
    process.kill()  # it would write its report
    process.communicate()
    whole, resumed = Checkpoint.load(tmp_path / "whole"), Checkpoint.load(finished.output)
    assert len(resumed.history) == 4
    for group in ("model", "optimizer", "best"):
        for expected, got in zip(getattr(whole, group), getattr(resumed, group), strict=True):
            np.testing.assert_array_equal(expected, got)


def test_an_unfinished_training_is_not_overwritten(train: Train, finished: Finished) -> None:
    process = train(finished.output)
    _, err = process.communicate()
    assert process.returncode == 2
    assert "--resume" in err
    assert "Traceback" not in err


def test_ctrl_c_says_how_to_go_on(finished: Finished) -> None:
    assert f"--output {finished.output} --resume" in finished.told_when_stopped
    assert "Traceback" not in finished.told_when_stopped


def _wait_for_epochs(output: Path, epochs: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if (output / FILE).exists() and len(Checkpoint.load(output).history) >= epochs:
            return
        time.sleep(0.05)
    ended = process.poll() is not None
    raise AssertionError(f"no {epochs} epochs: {process.communicate()[1] if ended else 'too slow'}")
