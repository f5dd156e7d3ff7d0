"""The check for machines with a GPU, as far as it runs without one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fer_deploy.bundle.manifest import Bundle

SCRIPT = Path(__file__).parents[2] / "benchmarks/gpu_check.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True)


def test_one_row(tiny_bundle: Bundle) -> None:
    """What each process runs, on the CPU."""
    pytest.importorskip("onnxruntime")
    done = run("--form", "onnx:cpu:fp32", "--seconds", "0.1", "--bundle", str(tiny_bundle.path))
    row = json.loads(done.stdout)
    assert (row["status"], row["reason"], row["effective"], row["n"]) == ("ok", None, "fp32", 111)
    assert row["agreement"] == 1
    assert row["max_abs_difference"] < 1e-5
    for batch in ("1", "8", "64", "256"):
        sizes = row["batches"][batch]
        assert 0 < sizes["latency_p50_s"] <= sizes["latency_p99_s"] <= max(sizes["latency_s"]) + 1e-6
        assert sizes["images_per_s"] > 0


def test_what_cannot_run_is_a_row_with_its_reason(tiny_bundle: Bundle) -> None:
    row = json.loads(run("--form", "onnx:cpu:int8", "--bundle", str(tiny_bundle.path)).stdout)
    assert row["status"] == "failed"
    assert row["reason"]
    assert "\n" not in row["reason"]
