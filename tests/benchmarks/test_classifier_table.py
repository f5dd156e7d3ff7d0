"""Which rows are compared, and when a target counts as met."""

from __future__ import annotations

from typing import Any

from classifier_table import compare, draw, peak_shares

OPERATIONS = {"default": 1_000_000, "fast": 250_000}


def row(name: str, speed: float, weights: str = "ours", accuracy: float | None = None, **more: Any) -> dict[str, Any]:
    samples = [{"n": speed, "seconds": 1.0}] * 2
    fields = {"weights": weights, "accuracy": accuracy, "status": "ok", "reason": None, "unit": "images"}
    return {"name": name, "per_s": speed, "samples": samples, **fields, **more}


def result(*rows: dict[str, Any], kind: str = "avx2") -> dict[str, Any]:
    machine = {"cpu": "X", "cpu_class": kind, "usable_cpus": 2}
    return {"machine": machine, "date": "2026-01-01", "operations_per_image": OPERATIONS, "rows": list(rows)}


def line(found: list[dict[str, Any]], peer: str) -> dict[str, Any]:
    return next(each for each in found if peer in each["peer"])


OURS = row("fer-deploy int8", 1000, accuracy=0.68)


def test_a_target_is_of_the_cpu_class() -> None:
    keras = row("keras-predict", 100)
    assert line(compare(result(OURS, keras)), "Keras")["met"] is True  # 10 of 6
    assert line(compare(result(OURS, keras, kind="amx")), "Keras")["met"] is False  # 10 of 20
    assert line(compare(result(OURS, keras, kind="avx512")), "Keras")["met"] is None


def test_the_faster_of_two_forms_of_a_peer_counts() -> None:
    found = line(compare(result(OURS, row("onnxruntime-int8", 300), row("onnxruntime-int8-ours", 500))), "int8")
    assert (found["theirs"], found["ratio"]["median"]) == ("onnxruntime-int8-ours", 2)


def test_against_other_weights_only_what_is_as_accurate_counts() -> None:
    fer = row("fer-tflite", 250, "theirs", 0.66)
    fast, fastest = row("fer-deploy int8 fast", 2000, accuracy=0.66), row("fer-deploy int8 tiny", 9000, accuracy=0.65)
    found = line(compare(result(OURS, fast, fastest, fer)), "fer")
    assert (found["ours"], found["ratio"]["median"]) == ("fer-deploy int8 fast", 8)
    unmeasured = line(compare(result(OURS, row("fer-tflite", 250, "theirs"))), "fer")
    assert (unmeasured["met"], unmeasured["ratio"]) == (False, None)
    assert "--data" in unmeasured["reason"]


def test_a_peer_that_did_not_run_meets_no_target() -> None:
    broken = row("keras-predict", 100, status="failed", reason="no such package", samples=[], per_s=None)
    found = compare(result(OURS, broken))
    assert (line(found, "Keras")["met"], line(found, "Keras")["reason"]) == (False, "no such package")
    assert line(found, "fp32")["reason"] == "it was not in the run"
    assert "| Keras predict, its best batch |  |  | >= 6 | no such package | no |" in draw(result(OURS, broken), found)


def test_the_share_of_the_peak_is_of_the_same_type_and_the_rows_own_network() -> None:
    rows = [row("fer-deploy " + name, 1000, bundle=bundle, precision=name[:4]) for name, bundle in NAMES]
    peaks = [row(f"peak-{kind}", speed, "random", unit="operations") for kind, speed in (("int8", 4e9), ("fp32", 2e9))]
    assert [(line[0], line[3]) for line in peak_shares(result(*rows, *peaks))] == [
        ("fer-deploy int8", "25%"),
        ("fer-deploy fp32", "50%"),
        ("fer-deploy int8 fast", "6%"),
    ]
    assert peak_shares(result(*rows)) == []


NAMES = (("int8", "default"), ("fp32", "default"), ("int8 fast", "fast"), ("bf16", "default"))
