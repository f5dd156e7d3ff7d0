"""Forms side by side, each in its own process: turns, rows, and what becomes of one that fails."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fer_deploy.benchmark.plot import front, points
from fer_deploy.benchmark.results import ROUNDS, BenchSettings, SpeedRow, fastest, known_accuracy, quickest, speed_ups
from fer_deploy.benchmark.runner import bench, order_of_rounds
from fer_deploy.benchmark.stopwatch import Task
from fer_deploy.benchmark.worker import WorkerEntry, wait_until_idle
from fer_deploy.benchmark.worker_process import WorkerProcess
from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.bundle.records import Record
from fer_deploy.errors import BackendError, BundleError, UnavailableError
from fer_deploy.verification.variants import NULL, ModelVariant, select

QUICK = BenchSettings(batches=(2, 1), duration_s=0.05)


def test_every_row_has_its_turn_in_every_round_in_another_order() -> None:
    orders = order_of_rounds(8, 6)
    assert [sorted(order) for order in orders] == [list(range(8))] * 6
    assert len(set(map(tuple, orders))) == 6
    assert orders == order_of_rounds(8, 6)


def test_rows_of_forms_that_run_and_that_do_not(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[tuple[str, str, Any]] = []
    real = WorkerProcess.ask

    def ask(self: WorkerProcess, do: str, seconds: float = 0.0, **what: Any) -> Any:
        reported.append((self.ready["runtime"], do, tuple(what.get("task", ()))))
        return real(self, do, seconds, **what)

    monkeypatch.setattr(WorkerProcess, "ask", ask)
    selection = select("all", "fp32,bf16", extra=(NULL,))
    wanted = (ModelVariant("openvino", "fp32"), ModelVariant("trt", "fp32"), NULL)
    rows = bench(tiny_bundle, replace(selection, variants=wanted), QUICK)

    ran = [row for row in rows if row.status == "ok"]
    tasks = [(mode, batch) for mode in ("latency", "throughput") for batch in (1, 2)]
    assert [(row.backend, row.mode, row.batch) for row in ran if row.backend != "trt"] == [
        (variant.backend, *task) for variant in (wanted[0], NULL) for task in tasks
    ]
    for row in ran:
        assert row.n == (row.samples or 0) * (row.batch or 0)
        assert (row.latency_p50_s is None) == (row.mode == "throughput")
        assert 0 < len(row.samples_s or ()) <= 2000
        assert min(row.compile_s or 0, row.load_s or 0, row.cold_start_s or 0, row.peak_memory_mib or 0) > 0
    skipped = [row for row in rows if row.status == "skipped"]
    assert all("trt backend" in (row.reason or "") for row in skipped)

    turns = [(name, task) for name, do, task in reported if do == "turn"]
    once = len(set(turns))
    rounds = [turns[start : start + once] for start in range(0, len(turns), once)]
    assert len(rounds) == QUICK.rounds
    assert all(set(one) == set(turns) for one in rounds)
    first_turn = [do for _, do, _ in reported].index("turn")
    assert "warm_up" not in [do for _, do, _ in reported[first_turn:]]


def test_a_named_backend_that_cannot_run_is_an_error(tiny_bundle: Bundle) -> None:
    with pytest.raises(UnavailableError, match="no device cuda"):
        bench(tiny_bundle, select("openvino", "fp32"), replace(QUICK, device="cuda"))


def test_a_device_that_nothing_has_is_an_error(tiny_bundle: Bundle) -> None:
    with pytest.raises(UnavailableError, match=r"Nothing can be measured here: .*no device nowhere"):
        bench(tiny_bundle, select(precisions="fp32", extra=(NULL,)), replace(QUICK, device="nowhere"))


def test_a_form_that_crashes_costs_no_other_row(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    real = WorkerProcess.ask

    def ask(self: WorkerProcess, do: str, seconds: float = 0.0, **what: Any) -> Any:
        if do == "turn" and "OpenVINO" in self.ready["runtime"]:
            os.kill(self._process.pid, signal.SIGSEGV)
        return real(self, do, seconds, **what)

    monkeypatch.setattr(WorkerProcess, "ask", ask)
    selection = replace(select(), variants=(ModelVariant("openvino", "fp32"), NULL))
    failed, *others = bench(tiny_bundle, selection, replace(QUICK, modes=("latency",)))
    assert (failed.status, failed.reason) == ("failed", "it crashed (signal 11, SIGSEGV)")
    assert [(row.backend, row.status) for row in others] == [("null", "ok")] * 2


def test_a_damaged_file_is_never_run(tiny_bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle.path, tmp_path / "bundle")
    (tmp_path / "bundle" / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match="not the file that the bundle's manifest names"):
        bench(Bundle.load(tmp_path / "bundle"), select("openvino", "fp32"), QUICK)


def test_a_model_that_no_runtime_takes_is_a_failed_row(tiny_bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle.path, tmp_path / "bundle")
    (tmp_path / "bundle" / "empty.onnx").write_bytes(b"\x08\x08")
    broken = replace(tiny_bundle, path=tmp_path / "bundle", artefacts=())
    broken = replace(broken, artefacts=(describe_file(broken.path, "empty.onnx", "onnx", "fp32", {}),))
    broken.save()
    (row,) = bench(broken, select("openvino", "fp32"), QUICK)
    assert row.status == "failed"
    assert "cannot load the model" in (row.reason or "")


def test_a_process_that_takes_too_long(tmp_path: Path) -> None:
    entry = WorkerEntry(str(Bundle.load().path), "null", "fp32")
    with pytest.raises(BackendError, match=r"took longer than 0\.001 s"):
        WorkerProcess(entry, str(tmp_path), 0.001)
    with WorkerProcess(entry, str(tmp_path), 30) as process:
        os.kill(process._process.pid, signal.SIGSTOP)
        process._limit_s = 0.05
        with pytest.raises(BackendError, match="took longer"):
            process.ask("turn", task=Task("latency", 1))


def test_the_next_turn_waits_until_threads_have_stopped_spinning() -> None:
    used = iter([0.0, 0.04, 0.07, 0.08, 0.0801, 9.0])
    pauses: list[float] = []
    wait_until_idle(lambda: next(used), pauses.append)
    assert len(pauses) == 4
    wait_until_idle(iter(range(100)).__next__, pauses.append)  # one that never stops is not waited for without end
    assert len(pauses) < 40


def speed(backend: str, images_per_s: float, **other: Any) -> SpeedRow:
    made = {"precision": "fp32", "mode": "throughput", "batch": 64, "status": "ok", **other}
    return SpeedRow(backend=backend, images_per_s=images_per_s, **made)


def test_speed_ups_are_over_the_others_best_batch() -> None:
    keras = (speed("keras", 100, batch=1), speed("keras", 200))
    onnx = (speed("onnx", 500), speed("onnx", 900, precision="int8"))
    openvino = speed("openvino", 2000)
    null = speed("null", 1e6)
    rows = (*keras, *onnx, openvino, null)
    assert speed_ups(rows, openvino) == (10, 4)
    assert speed_ups(rows, keras[0]) == (0.5, 0.2)
    assert speed_ups(rows, null) == (None, None)
    assert speed_ups((openvino,), openvino) == (None, None)
    assert fastest(rows) == openvino
    quick = speed("onnx", 900, mode="latency", latency_p50_s=0.001)
    assert quickest((*rows, quick, speed("null", 1e6, mode="latency", latency_p50_s=1e-6))) == quick


def test_the_front_of_a_plot_is_what_nothing_beats_in_both() -> None:
    rows = (
        *(speed("onnx", 10, batch=1, accuracy=0.6), speed("onnx", 700, accuracy=0.6)),
        *(speed("keras", 20, batch=1, accuracy=0.7), speed("keras", 300, accuracy=0.7)),
        *(speed("openvino", 30, batch=1, accuracy=0.6), speed("openvino", 900, accuracy=0.6)),
        speed("trt", 5000),
    )
    ordered = points(rows)
    assert [(row.backend, row.images_per_s) for row in ordered] == [("openvino", 900), ("onnx", 700), ("keras", 300)]
    assert [row.backend for row in front(ordered)] == ["openvino", "keras"]


def test_accuracy_is_of_this_kind_of_machine_if_it_is_known() -> None:
    bundle = Bundle.load()
    artefact = bundle.find("onnx", "int8")
    assert artefact is not None

    def record(machine: str, split: str, accuracy: float) -> Record:
        return Record(
            *("openvino", "int8", "int8", False, "cpu", "OpenVINO", machine, artefact.sha256, split),
            *(100, accuracy, 0.0, 1.0, 1.0, "ok", "", "2026-01-01"),
        )

    records = (record("amx", "PrivateTest", 0.7), record("avx2", "PublicTest", 0.6), record("avx2", "PrivateTest", 0.5))
    known = replace(bundle, verification=records)
    variant = ModelVariant("openvino", "int8")
    found = [known_accuracy(known, variant, "cpu", machine) for machine in ("amx", "avx2", "other")]
    assert [(each.accuracy, each.machine) for each in found if each] == [(0.7, "amx"), (0.5, "avx2"), (0.7, "amx")]
    assert known_accuracy(known, ModelVariant("onnx", "int8"), "cpu", "amx") is None


def test_settings() -> None:
    assert BenchSettings((64, 1, 64), ("latency",)).tasks == (Task("latency", 1), Task("latency", 64))
    assert (BenchSettings(duration_s=0.05).rounds, BenchSettings(duration_s=30).rounds) == (ROUNDS, 30)
