"""Two results side by side, made up: ratios, what is too much, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fer_deploy.benchmark.compare import check_baseline, difference
from fer_deploy.benchmark.results import dump, load_result
from fer_deploy.errors import UsageError


def row(mode: str = "throughput", speed: float = 1000.0, **other: Any) -> dict[str, Any]:
    made = {
        **{"backend": "openvino", "precision": "int8", "device": "cpu", "machine": "amx", "graph": None},
        **{"mode": mode, "batch": 64, "images_per_s": speed, "status": "ok"},
    }
    return {**made, **({"latency_p50_s": 64 / speed} if mode == "latency" else {}), **other}


def result(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"schema": 1, "machine": {"cpu_class": "amx", "usable_cpus": 2}, "rows": list(rows)}


def test_faster_and_slower_in_both_modes() -> None:
    old = result(row(), row("latency"), row(batch=1), row(backend="onnx"))
    new = result(row(speed=800.0), row("latency", speed=800.0), row(batch=1, speed=1500.0), row(batch=8))
    found = difference(old, new)
    assert [change.ratio for change in found.changes] == pytest.approx([0.8, 0.8, 1.5])
    assert [change.lost_percent for change in found.changes] == pytest.approx([20, 25, -50])
    assert [str(key) for key in found.only_old] == ["onnx/int8 on cpu, batch 64, throughput"]
    assert [key.batch for key in found.only_new] == [8]
    lines = found.regressions(10)
    assert lines == [
        "openvino/int8 on cpu, batch 64, throughput: 1,000 images/s before, 800 images/s now: "
        "20.0 % worse, at most 10 % are allowed",
        "openvino/int8 on cpu, batch 64, latency: p50 64.000 ms before, p50 80.000 ms now: "
        "25.0 % worse, at most 10 % are allowed",
    ]
    assert len(found.regressions(22)) == 1
    assert found.regressions(25.1) == []
    assert found.as_dict()["rows"][0]["ratio"] == pytest.approx(0.8)


def test_with_and_without_graphs_are_two_rows() -> None:
    gpu = {"backend": "trt", "device": "cuda", "machine": "H200"}
    old = result(row(**gpu, graph=True), row(speed=500.0, **gpu, graph=False))
    assert [change.ratio for change in difference(old, old).changes] == [1, 1]


def test_rows_that_did_not_run_are_not_compared() -> None:
    skipped = {"backend": "trt", "precision": "fp16", "status": "skipped", "reason": "no GPU"}
    found = difference(result(row(), skipped), result(row(), skipped))
    assert (len(found.changes), found.only_old, found.only_new) == (1, (), ())


def test_another_kind_of_machine_is_refused() -> None:
    with pytest.raises(UsageError, match=r"this run was measured on amx, and this is avx2: .*cannot be compared"):
        difference(result(row()), result(row(machine="avx2")))
    with pytest.raises(UsageError, match="measured on amx, and this is avx2"):
        check_baseline(result(row()), "avx2")
    check_baseline(result(row(device="cuda", machine="H200")), "avx2")
    check_baseline(result(row()), "amx")


def test_what_else_differs_is_told() -> None:
    new = result(row())
    new["machine"] = {"cpu_class": "amx", "usable_cpus": 16}
    assert difference(result(row()), new).notes == ("usable_cpus was 2 and is 16",)
    new = result(row()) | {"bundle": {"name": "theirs", "source_sha256": "1" * 64}}
    assert any("two models" in note and "theirs" in note for note in difference(result(row()), new).notes)


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(UsageError, match="no row in common"):
        difference(result(row()), result(row(batch=1)))


def test_files_are_read_as_they_are_written(tmp_path: Path) -> None:
    made = result(row(samples_s=[0.1, 0.2]), row(batch=1))
    path = tmp_path / "a.json"
    path.write_text(dump(made))
    assert load_result(path) == {**made, "path": str(path)}
    assert json.loads(path.read_text()) == made
    assert [line.lstrip()[:10] for line in path.read_text().splitlines()].count('{"backend"') == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no result of fer-deploy bench"),
        ("[]", "schema 1"),
        ('{"schema": 2, "rows": []}', "schema 1"),
        ('{"schema": 1, "rows": {}}', "rows is no list"),
        (json.dumps(result(row(images_per_s=0))), "images_per_s of a row is 0"),
        (json.dumps(result(row(images_per_s=True))), "images_per_s of a row is True"),
        (json.dumps(result(row("latency", latency_p50_s=None))), "latency_p50_s of a row is None"),
        (json.dumps(result(row(machine=None))), "machine of a row is None"),
        (json.dumps(result(row(batch="64"))), "batch of a row"),
        ("[" * 100_000, "no result"),
        (json.dumps(result(row(images_per_s=10**400))), "no result"),
        (json.dumps(result(row()) | {"machine": [1]}), "machine is no object"),
        (json.dumps(result(row()) | {"settings": "abc"}), "settings is no object"),
    ],
)
def test_what_is_no_result(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_result(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="cannot be read"):
        load_result(tmp_path / "nowhere.json")
