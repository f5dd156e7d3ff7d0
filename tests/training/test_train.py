"""``fer-deploy train`` on the real data: what it writes, and that being killed changes nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.training.checkpoint import FILE, Checkpoint

pytestmark = pytest.mark.fer2013

Train = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def uninterrupted(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("train") / "whole"
    process = train(output, "--json")
    out, err = process.communicate()
    assert process.returncode == 0, err
    (output / "stdout.json").write_text(out)
    return output


def test_it_writes_the_model_and_its_report(uninterrupted: Path) -> None:
    written = {path.name for path in uninterrupted.iterdir()}
    assert {"model.keras", "metrics.json", "report.md", "curves.png", "confusion.png"} <= written
    assert {"heatmap.png", "heatmap_mean_faces.png"} <= written
    metrics = json.loads((uninterrupted / "metrics.json").read_text())
    assert [row["epoch"] for row in metrics["epochs"]] == [1, 2, 3, 4]
    assert metrics["summary"]["layers"] == 38
    assert {name: part["n"] for name, part in metrics["data"].items()}["Training"] == 28_709
    assert metrics["scores"]["Test"]["n"] == 7_178
    unseen = metrics["without_copies"]
    assert {name: (part["n"] + part["copies"], part["copies"] > 0) for name, part in unseen.items()} == {
        "PublicTest": (3_589, True),
        "PrivateTest": (3_589, True),
        "Test": (7_178, True),
    }
    assert "## Without copies" in (uninterrupted / "report.md").read_text()


def test_json_on_stdout_is_one_object(uninterrupted: Path) -> None:
    printed = json.loads((uninterrupted / "stdout.json").read_text())
    assert printed["schema"] == 1
    assert [row["split"] for row in printed["rows"]] == ["PublicTest", "PrivateTest", "Test"]


def test_it_learns(uninterrupted: Path) -> None:
    metrics = json.loads((uninterrupted / "metrics.json").read_text())
    most_frequent = 1774 / 7178  # happy, of the test folder
    assert metrics["scores"]["Test"]["accuracy"] > most_frequent + 0.02
    losses = [row["loss"] for row in metrics["epochs"]]
    assert losses[-1] < losses[0]


def test_killed_in_mid_epoch_and_resumed_it_ends_with_the_same_weights(
    train: Train, uninterrupted: Path, tmp_path: Path
) -> None:
    output = tmp_path / "killed"
    for epochs in (1, 3):  # once in the first stage, once where the second begins
        process = train(output, *(["--resume"] if epochs > 1 else []))
        _wait_for_epochs(output, epochs, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = train(output, "--resume")
    _, err = process.communicate()
    assert process.returncode == 0, err
    whole, resumed = Checkpoint.load(uninterrupted), Checkpoint.load(output)
    assert len(resumed.history) == 4
    for group in ("model", "optimizer", "best"):
        for expected, got in zip(getattr(whole, group), getattr(resumed, group), strict=True):
            np.testing.assert_array_equal(expected, got)


def test_an_unfinished_training_is_not_overwritten(train: Train, uninterrupted: Path) -> None:
    process = train(uninterrupted)
    _, err = process.communicate()
    assert process.returncode == 2
    assert "--resume" in err
    assert "Traceback" not in err


def test_ctrl_c_says_how_to_go_on(train: Train, tmp_path: Path) -> None:
    process = train(tmp_path / "stopped")
    _wait_for_epochs(tmp_path / "stopped", 1, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"--output {tmp_path / 'stopped'} --resume" in err
    assert "Traceback" not in err


def _wait_for_epochs(output: Path, epochs: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if (output / FILE).exists() and len(Checkpoint.load(output).history) >= epochs:
            return
        time.sleep(0.05)
    ended = process.poll() is not None
    raise AssertionError(f"no {epochs} epochs: {process.communicate()[1] if ended else 'too slow'}")
