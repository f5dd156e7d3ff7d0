"""The JSON of ``fer-deploy bench``: written with a row per line, read again with every figure checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fer_deploy.bundle import Bundle
from fer_deploy.errors import UsageError
from fer_deploy.evaluation.bench import Settings
from fer_deploy.evaluation.latency import LATENCY, MODES, MOST_SAMPLES
from fer_deploy.evaluation.rows import OK
from fer_deploy.evaluation.speed_rows import SpeedRow, speed_ups
from fer_deploy.machine import machine_info

SCHEMA: Final = 1
MAX_BYTES: Final = 1 << 28
Result = dict[str, Any]


def as_result(bundle: Bundle, rows: Sequence[SpeedRow], settings: Settings) -> Result:
    """Makes the object that ``--json`` prints."""
    return {
        "schema": SCHEMA,
        "machine": machine_info(),
        "bundle": {"path": bundle.address, "name": bundle.name, "source_sha256": bundle.source_sha256},
        "settings": {
            "batches": sorted(set(settings.batches)),
            "modes": list(settings.modes),
            "duration_s": settings.duration_s,
            "rounds": settings.rounds,
            "device": settings.device,
            "threads": settings.threads,
            "pictures": "probe",
            "most_samples": MOST_SAMPLES,
        },
        "rows": [_with_speed_ups(rows, row) for row in rows],
    }


def _with_speed_ups(rows: Sequence[SpeedRow], row: SpeedRow) -> dict[str, Any]:
    keras, onnx = speed_ups(rows, row)
    return {**row.as_dict(), "speed_up_over_keras": keras, "speed_up_over_onnx_fp32": onnx}


def dump(result: Mapping[str, Any]) -> str:
    """Gives JSON text with one line per key and one per row, so that raw samples don't fill the screen."""
    lines = [f" {json.dumps(key)}: {_value(key, value)}" for key, value in result.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


def _value(key: str, value: Any) -> str:
    if key != "rows":
        return json.dumps(value, allow_nan=False)
    return "[\n" + ",\n".join(f"  {json.dumps(row, allow_nan=False)}" for row in value) + "\n ]"


def load_result(path: Path) -> Result:
    """Reads what ``fer-deploy bench --output`` or ``--json`` wrote.

    Raises:
        UsageError: It cannot be read, or is not of this kind.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
        result = json.loads(path.read_text(encoding="utf-8"))
        _check(result)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"{path} is no result of fer-deploy bench --output: {error}") from error
    return {**result, "path": str(path)}


def _check(result: Any) -> None:
    if not isinstance(result, dict) or result.get("schema") != SCHEMA:
        raise ValueError(f"expected a JSON object with schema {SCHEMA}")
    for name in ("machine", "bundle", "settings"):
        if not isinstance(result.get(name, {}), dict):
            raise ValueError(f"{name} is no object")
    rows = result.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("rows is no list of objects")
    for row in rows:
        if row.get("status") == OK:
            _check_row(row)


def _check_row(row: Mapping[str, Any]) -> None:
    for name in ("backend", "precision", "device", "machine", "mode"):
        if not isinstance(row.get(name), str) or not row[name].isprintable():
            raise ValueError(f"{name} of a row is {row.get(name)!r:.40}, expected a word")
    if row["mode"] not in MODES or type(row.get("batch")) is not int:
        raise ValueError(f"mode and batch of a row are {row['mode']!r:.40} and {row.get('batch')!r:.40}")
    if row.get("graph") not in (None, True, False):
        raise ValueError(f"graph of a row is {row['graph']!r:.40}, expected true, false or null")
    for name in ("images_per_s", *(("latency_p50_s",) if row["mode"] == LATENCY else ())):
        value = row.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise ValueError(f"{name} of a row is {value!r:.40}, expected a number above 0")
