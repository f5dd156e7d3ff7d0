#!/usr/bin/env python3
"""The table of targets: how many times as fast the classifier is as each peer, from results of ``peers/run.py``.

    benchmarks/classifier_table.py benchmarks/results/peers-*.json

Ours is OpenVINO int8 through the library, its batch as found in the run. Against the classifier of `fer` counts the
fastest of our rows that is at least as accurate, measured in the same run. Also the share of the CPU's peak, which is a
matrix product of the same type in the same rounds. Exit code 1 if a target for the CPU class is missed or its row is
not there; a class without targets has none to miss.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rounds import markdown, ratio

Row = dict[str, Any]

TARGETS: tuple[tuple[str, tuple[str, ...], dict[str, float]], ...] = (
    ("Keras predict, its best batch", ("keras-predict",), {"amx": 20, "avx2": 6}),
    ("ONNX Runtime fp32", ("onnxruntime-fp32",), {"amx": 8, "avx2": 1.8}),
    ("ONNX Runtime int8", ("onnxruntime-int8", "onnxruntime-int8-ours"), {"amx": 2, "avx2": 1.3}),
    ("OpenVINO's benchmark_app, same file", ("benchmark_app",), {"amx": 0.97, "avx2": 0.97}),
    ("classifier of fer (TFLite), as it is used", ("fer-tflite",), {"amx": 6, "avx2": 3}),
)
"""Peer, its rows (the fastest counts), and the least ratio by CPU class."""


def compare(result: Row) -> list[Row]:
    """Holds a result to the targets.

    Args:
        result: As ``peers/run.py`` writes it.

    Returns:
        Per target: ``peer``, ``target`` (None where the class has none), ``ratio`` (None where it cannot be told),
        ``ours`` and ``theirs`` (names of rows), ``met``, ``reason``.
    """
    rows = {row["name"]: row for row in result["rows"]}
    ours = [row for row in result["rows"] if row["name"].startswith("fer-deploy") and row["status"] == "ok"]
    found = []
    for peer, names, least in TARGETS:
        there = [rows[name] for name in names if name in rows and rows[name]["status"] == "ok"]
        theirs = max(there, key=lambda row: row["per_s"], default=None)
        line: Row = {"peer": peer, "target": least.get(result["machine"]["cpu_class"]), "ratio": None, "met": None}
        line |= {"ours": None, "theirs": theirs and theirs["name"], "reason": None}
        best = _ours(ours, theirs)
        if theirs is None:
            reasons = [rows[name]["reason"] for name in names if name in rows]
            line["reason"] = reasons[0] if reasons else "it was not in the run"
        elif best is None:
            line["reason"] = "no row of ours that ran is at least as accurate (or --data was not given)"
        else:
            line |= {"ours": best["name"], "ratio": ratio(best["samples"], theirs["samples"])}
        if line["target"] is not None:
            line["met"] = line["ratio"] is not None and line["ratio"]["median"] >= line["target"]
        found.append(line)
    return found


def _ours(ours: list[Row], theirs: Row | None) -> Row | None:
    """Takes the first bundle's row; against other people's weights, the fastest that is at least as accurate."""
    if theirs is None or not ours:
        return None
    if theirs["weights"] != "theirs":
        return ours[0]
    if theirs["accuracy"] is None:
        return None
    able = [row for row in ours if row["accuracy"] is not None and row["accuracy"] >= theirs["accuracy"]]
    return max(able, key=lambda row: row["per_s"], default=None)


def peak_shares(result: Row) -> list[list[str]]:
    """Sets the operations per second of each of our rows beside the highest that was reached in its type."""
    peaks = {row["name"]: row for row in result["rows"] if row["unit"] == "operations" and row["status"] == "ok"}
    found = []
    for row in result["rows"]:
        peak = peaks.get(f"peak-{row.get('precision')}")
        if row["status"] != "ok" or peak is None:
            continue
        share = ratio(row["samples"], peak["samples"])["median"] * result["operations_per_image"][row["bundle"]]
        found.append(
            [row["name"], f"{share * peak['per_s'] / 1e12:.2f}", f"{peak['per_s'] / 1e12:.2f}", f"{share:.0%}"]
        )
    return found


def draw(result: Row, lines: list[Row]) -> str:
    """Draws both tables in markdown."""
    cells = []
    for line in lines:
        found = line["reason"] or "{median:.2f} ({min:.2f} to {max:.2f})".format(**line["ratio"])
        target = "-" if line["target"] is None else f">= {line['target']:g}"
        met = {None: "", True: "yes", False: "no"}[line["met"]]
        cells.append([line["peer"], line["ours"] or "", line["theirs"] or "", target, found, met])
    machine = result["machine"]
    head = f"{machine['cpu']}, {machine['cpu_class']}, {machine['usable_cpus']} CPUs, {result['date']}"
    parts = [head, markdown(["against", "ours", "theirs", "target", "times as fast", "met"], cells)]
    shares = peak_shares(result)
    if shares:
        title = ["ours", "T operations/s", "peak, T operations/s", "share"]
        parts.append(markdown(title, shares))
    return "\n\n".join(parts)


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    missed = False
    for path in parser.parse_args().results:
        result = json.loads(path.read_text(encoding="utf-8"))
        lines = compare(result)
        print(draw(result, lines))
        missed = missed or any(line["met"] is False for line in lines)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
