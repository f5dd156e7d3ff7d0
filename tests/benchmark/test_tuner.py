"""``bench --tune``: what is tried, what is chosen, and that it is remembered and used."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy import Classifier
from fer_deploy.backends.base import BackendSettings
from fer_deploy.benchmark import tuner as tune_module
from fer_deploy.benchmark.tuner import Candidate, choices, choose
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.bundle.records import Tuned
from fer_deploy.bundle.store import keep_tuned, tuned_for
from fer_deploy.cli import main


def candidate(ratio: float, *settings: int | None, rounds: int = 6) -> Candidate:
    process: Any = None
    return Candidate(BackendSettings(*settings), process, [1000 * ratio] * rounds, [ratio] * rounds)


def test_the_simplest_of_the_fastest_is_chosen() -> None:
    default = candidate(1.0, None, None, 32)
    small, streams, slow = candidate(1.2, None, None, 16), candidate(1.22, None, 1, 64), candidate(0.9, None, None, 8)
    assert choose([streams, small, default], default) is small
    assert choose([candidate(1.3, None, 1, 64), small, default], default).settings.streams == 1
    assert choose([candidate(1.02, None, 1, 64), default, slow], default) is default
    assert choose([default, candidate(1.5, None, None, 8, rounds=2)], default) is default  # left out before the end


def test_what_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune_module, "usable_cores", lambda: 8)
    monkeypatch.setattr(tune_module, "machine_info", lambda: {"usable_cpus": 16})
    assert choices("openvino", "cpu", {"streams": 8, "threads": 8}) == [(None, 1), (None, 2), (None, 4), (16, 16)]
    assert choices("onnx", "cpu", {"streams": 1, "threads": 8}) == [(1, None), (2, None), (4, None), (16, None)]
    assert choices("onnx", "cuda", {}) == choices("keras", "cpu", {}) == []


def test_the_command(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(
        "fer_deploy.bundle.manifest.ASSETS", tiny_bundle.path.parent
    )  # so that others find it as it was
    monkeypatch.setattr(tune_module, "BATCHES", (1, 4))
    monkeypatch.setattr(tune_module, "choices", lambda *_: [(None, 1)])
    command = ["fer-deploy", "bench", str(tiny_bundle.path), "--tune", "--duration", "0.02", "--json"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    captured = capsys.readouterr()
    reported = json.loads(captured.out)
    assert captured.err.startswith(f"Recorded in {tmp_path}")
    assert {(row["streams"], row["batch"]) for row in reported["rows"]} == {
        (None, 32),
        (None, 1),
        (None, 4),
        (1, 1),
        (1, 4),
    }
    (chosen,) = [row for row in reported["rows"] if row["chosen"]]
    (found,) = tuned_for(tiny_bundle)
    assert (found.backend, found.precision, found.batch) == ("openvino", "fp32", chosen["batch"])
    assert found.gain == pytest.approx(chosen["ratio_to_default"], abs=1e-4)
    with Classifier.load(tiny_bundle) as classifier:
        assert classifier.backend.batch == chosen["batch"]


def test_settings_reach_the_runtime(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from fer_deploy.system.machine import machine_info, usable_cores

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("fer_deploy.bundle.manifest.ASSETS", tiny_bundle.path.parent)
    artefact = tiny_bundle.find("onnx")
    assert artefact
    place = ("cpu", "R 1", machine_info()["cpu_class"], usable_cores(), artefact.sha256)
    variants = (("openvino", 0, 1), ("onnx", 1, 0))
    keep_tuned(
        tiny_bundle,
        [
            Tuned(name, "fp32", *place, threads, streams, 3, 1.0, 1.0, "2026-01-01")
            for name, threads, streams in variants
        ],
    )
    faces = np.random.default_rng(0).integers(0, 256, (10, 48, 48, 1), dtype=np.uint8)
    with Classifier.load(tiny_bundle) as classifier:
        sizes: list[int] = []
        run_stream = classifier.backend.run_stream
        monkeypatch.setattr(
            classifier.backend,
            "run_stream",
            lambda batches: run_stream(sizes.append(len(batch)) or batch for batch in batches),
        )
        replies = classifier.predict(faces).probabilities
        assert sizes == [3, 3, 3, 1]
        assert classifier.backend.parallelism(streaming=True)[0] == 1
        np.testing.assert_allclose(classifier.predict(faces, batch_size=5).probabilities, replies, atol=1e-5)
        assert sizes[4:] == [5, 5]
    pytest.importorskip("onnxruntime")
    with Classifier.load(tiny_bundle, "onnx") as classifier:
        assert classifier.backend.parallelism(streaming=True) == (1, 1)
    with Classifier.load(tiny_bundle, "onnx", threads=2) as classifier:
        assert classifier.backend.parallelism(streaming=True) == (1, 2)
