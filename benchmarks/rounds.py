"""What rounds of interleaved measurements come to, and how result files are named."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def result_name(script: str, machine: Mapping[str, Any]) -> str:
    """Names a result file: ``<script>-<processor>-<cpu class>.json``, in lower case, never the machine's own name.

    Args:
        script: Its name without suffix.
        machine: As ``machine_info`` gives it.
    """
    words = re.sub(r"\(r\)|\(tm\)|\bcpu\b|\bprocessor\b|@.*", " ", str(machine["cpu"] or "unknown").lower())
    parts = [re.sub(r"[^a-z0-9.]+", "_", part).strip("_") for part in (words, str(machine["cpu_class"]))]
    return f"{script}-{'-'.join(parts)}.json"


def rate(samples: Sequence[Mapping[str, float]]) -> float:
    """Gives the median of the rounds' rates, each ``n`` over ``seconds``."""
    return statistics.median(sample["n"] / sample["seconds"] for sample in samples)


def ratio(ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Compares two rows round by round, so that noise which lasts a round falls on both.

    Args:
        ours: One sample per round, with ``n`` and ``seconds``.
        theirs: The same rounds of the other.

    Returns:
        How many times as fast ours is: ``median``, ``min`` and ``max`` over the rounds.

    Raises:
        ValueError: The rounds differ in number, or there are none.
    """
    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"{len(ours)} rounds of one and {len(theirs)} of the other; expected the same, at least one")
    found = [(a["n"] / a["seconds"]) / (b["n"] / b["seconds"]) for a, b in zip(ours, theirs, strict=True)]
    return {"median": statistics.median(found), "min": min(found), "max": max(found)}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Draws a markdown table; a bar in a cell would end it, so it is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
