"""The peers' driver and its protocol, with workers of our own in real processes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from peak import matrix_product, operations_per_image
from protocol import Runner, Worker, WorkerError

from fer_deploy.bundle.manifest import Bundle

PEERS = Path(__file__).parents[2] / "benchmarks/peers"
HEAD = f"""
import sys, time; sys.path.insert(0, {str(PEERS)!r})
import numpy as np
from protocol import Runner, serve
"""
GOOD = """
def stream(batches, size):
    for batch in batches:
        print("a library chatters")
        time.sleep(0.001)  # per call, so that a larger batch is faster
        yield batch * 2
serve(lambda: Runner(np.arange(10.0).reshape(10, 1), stream, (1, 4), versions={"x": "1"}))
"""


def start(tmp_path: Path, code: str) -> Worker:
    return Worker([sys.executable, "-c", HEAD + code], tmp_path / "log")


def test_a_worker_tunes_runs_and_answers(tmp_path: Path) -> None:
    worker = start(tmp_path, GOOD)
    try:
        assert worker.ready == {"ready": True, "versions": {"x": "1"}, "batches": [1, 4]}
        tuned = worker.ask("tune 0.1")
        assert (tuned["batch"], set(tuned["images_per_s"])) == (4, {"1", "4"})
        ran = worker.ask("run 0.1")
        assert ran["seconds"] >= 0.1
        assert ran["n"] > 4
        assert ran["n"] % 4 == 0, "only full batches are timed"
        assert worker.ask(f"answers {tmp_path / 'a.npy'}") == {"n": 10}
        np.testing.assert_array_equal(np.load(tmp_path / "a.npy")[:, 0], 2 * np.arange(10))
    finally:
        worker.close()
    assert "a library chatters" in (tmp_path / "log").read_text(), "not in the protocol's lines"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("serve(lambda: 1 / 0)", "ZeroDivisionError: division by zero"),
        ("import os; os.abort()", "the worker ended with exit code -6: it said nothing"),
        ("raise SystemExit('no such package')", "the worker ended with exit code 1: no such package"),
    ],
)
def test_a_worker_that_cannot_start_tells_why(tmp_path: Path, code: str, reason: str) -> None:
    with pytest.raises(WorkerError) as raised:
        start(tmp_path, code)
    assert str(raised.value) == reason


def test_a_worker_that_dies_in_a_round_tells_why(tmp_path: Path) -> None:
    worker = start(tmp_path, "import os\nserve(lambda: Runner(timed=lambda seconds, batch: os._exit(7)))")
    with pytest.raises(WorkerError, match="exit code 7"):
        worker.ask("run 1")
    with pytest.raises(WorkerError, match="exit code 7"):
        worker.ask("run 1")
    worker.close()


def test_every_picture_is_answered_once_and_in_order() -> None:
    runner = Runner(np.arange(7), lambda batches, size: batches)
    assert runner.predictions(3) == list(range(7))
    assert runner.run(0, 3)[0] == 3, "at least one batch, however short the time"
    assert runner.run(0, 64)[0] == 7, "a batch larger than all pictures"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, PEERS / "run.py", folder, *arguments], capture_output=True, text=True)


def test_a_peer_that_is_not_set_up_is_a_row_with_its_reason(tmp_path: Path, tiny_bundle: Bundle) -> None:
    output = tmp_path / "out.json"
    options = ["--bundle", str(tiny_bundle.path), "--precision", "fp32", "--rounds", "2", "--seconds", "0.01"]
    done = run(tmp_path, *options, "--only", "fer-tflite", "--output", str(output))
    assert done.returncode == 0, done.stderr
    ours, peer = json.loads(output.read_text())["rows"]
    assert (ours["status"], len(ours["samples"]), ours["weights"]) == ("ok", 2, "ours")
    assert ours["ratio"] == {"median": 1, "min": 1, "max": 1}
    assert (peer["status"], peer["ratio"], peer["weights"]) == ("failed", None, "theirs")
    assert peer["reason"].endswith("--setup --only fer-tflite")
    assert "| fer-tflite | theirs |" in done.stdout


def test_a_peer_that_does_not_exist_is_told(tmp_path: Path) -> None:
    done = run(tmp_path, "--only", "nobody")
    assert done.returncode == 2
    assert "there is no peer nobody; there are: benchmark_app, " in done.stderr


def test_operations_are_those_of_the_layers(tiny_bundle: Bundle) -> None:
    """Widths 8, 8, 16, 16 and a dense layer of 16, counted by hand; along a padded side two products are with zeros."""
    model = next(a.file for a in tiny_bundle.artefacts if (a.format, a.precision) == ("onnx", "fp32"))
    plain, padded = ((46, 1, 8), (44, 8, 8)), ((22, 8, 8), (22, 8, 8), (11, 8, 16), (11, 16, 16), (6, 16, 16))
    expected = sum(2 * (3 * side) ** 2 * before * after for side, before, after in plain)
    expected += sum(2 * (3 * side - 2) ** 2 * before * after for side, before, after in (*padded, padded[-1]))
    assert operations_per_image(str(tiny_bundle.path / model)) == expected + 2 * (16 * 16 + 16 * 7)


@pytest.mark.parametrize("shape", [(32, 8, 1, 2), (32, 8, 3, 2)])
def test_a_peak_counts_what_it_multiplies(shape: tuple[int, int, int, int]) -> None:
    channels, side, kernel, _ = shape
    model, operations = matrix_product("fp32", *shape)
    sides = (side, side) if kernel == 1 else (side - 2, side - 4)
    assert operations == sum(2 * n * n * (channels * kernel) ** 2 for n in sides)
    assert tuple(model.output(0).shape) == (1, channels, sides[1], sides[1])


def test_several_precisions_and_bundles_are_rows_of_one_run(tmp_path: Path, tiny_bundle: Bundle) -> None:
    second = tmp_path / "second"
    shutil.copytree(tiny_bundle.path, second)
    dataclasses.replace(Bundle.load(second), name="second").save()
    output = tmp_path / "out.json"
    options = ["--bundle", str(tiny_bundle.path), "--bundle", str(second), "--precision", "fp32,int8"]
    done = run(
        tmp_path, *options, "--rounds", "1", "--seconds", "0.01", "--only", "fer-tflite", "--output", str(output)
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    found = [(row["name"], row["status"], row.get("bundle"), row.get("precision")) for row in result["rows"]]
    assert found == [
        ("fer-deploy fp32", "ok", "tiny", "fp32"),
        ("fer-deploy int8", "failed", "tiny", "int8"),
        ("fer-deploy fp32 second", "ok", "second", "fp32"),
        ("fer-deploy int8 second", "failed", "second", "int8"),
        ("fer-tflite", "failed", None, None),
    ]
    assert "tiny" in result["operations_per_image"]
    assert "has no onnx model in int8" in result["rows"][1]["reason"]
