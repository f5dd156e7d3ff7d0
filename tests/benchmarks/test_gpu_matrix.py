"""The comparison on a GPU, as far as it runs without one."""

from __future__ import annotations

from typing import Any

from gpu_matrix import Launched, merged, row_of, table
from gpu_rows import failed, in_process

from fer_deploy.bundle.manifest import Bundle


def test_keras_under_xla_gives_what_keras_gives(tiny_bundle: Bundle) -> None:
    row = row_of("keras-tensorflow:cpu:fp32", tiny_bundle, None, seconds=0.02)
    assert (row["status"], row["reason"], row["n"], row["agreement"]) == ("ok", None, 111, 1)
    assert row["max_abs_difference"] < 1e-5
    assert row["runtime"].endswith("XLA")


def test_batches_in_flight_come_back_in_order() -> None:
    flying: list[int] = []

    def launch(batch: int) -> int:
        flying.append(batch)
        return batch

    def fetch(batch: int) -> int:
        assert len(flying) <= 5, "bounded"
        flying.remove(batch)
        return batch

    assert list(Launched(launch, fetch, "x").run_stream(range(20))) == list(range(20))


def row(images_per_s: float) -> dict[str, Any]:
    figures = {"images_per_s": images_per_s, "latency_p50_s": 1, "latency_p90_s": 1, "latency_p99_s": 1}
    sizes = {str(batch): figures for batch in (1, 8, 64, 256)}
    return {"backend": "b", "precision": "fp16", "runtime": "r", "status": "ok", "reason": None, "batches": sizes}


def test_rounds_become_one_row_of_medians() -> None:
    found = merged([row(10), row(30), row(11), failed("b:cuda:fp16", "it broke")])
    assert found["batches"]["64"]["images_per_s"] == 11
    assert [each["64"]["images_per_s"] for each in found["rounds"]] == [10, 30, 11]
    assert merged([failed("b:cuda:fp16", "it broke")])["reason"] == "it broke"


def test_the_table_has_speeds_and_reasons() -> None:
    lines = table([row(30), row(10), failed("c:cuda:fp32", "no such package")]).splitlines()
    assert lines[2].endswith("| 1000.000 ms | 1.00 |")
    assert lines[3].endswith("| 3.00 |")
    assert lines[4].startswith("| c fp32 | no such package |")


def test_an_environment_that_is_not_there_is_a_row() -> None:
    found = in_process("gpu_matrix.py", "torch-compile:cpu:fp32", [], stop=float("inf"), python="/nowhere/python")
    assert found["reason"] == "/nowhere/python: No such file or directory"
