"""What a form of the model must reach to pass: the one place where the limits stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

TOLERANCE_POINTS: Final = 0.5
"""How far below the target the accuracy may lie, in percentage points."""

MAX_DRIFT_POINTS: Final = 0.5
"""How far the accuracy may lie from Keras's on the same pictures, up or down, in percentage points."""

AGREEMENT_FLOORS: Final[Mapping[str, float]] = MappingProxyType(
    {"fp32": 0.999, "bf16": 0.995, "fp16": 0.995, "int8": 0.98, "int8-trt": 0.97}
)
"""Smallest share of pictures with the same top-1 as Keras, by precision."""

_ROUNDING: Final = 1e-9
"""Fractions of whole pictures are not exact in binary: one exactly at a limit passes."""


@dataclass(frozen=True)
class Gate:
    """Limits that every form is held to.

    Args:
        target: Accuracy, a fraction; None where the model has none: accuracy is then not gated.
        tolerance_points: Allowed distance below the target, in percentage points.
        max_drift_points: Allowed distance from Keras's accuracy, in percentage points.
        floors: Smallest agreement with Keras by precision, fractions.
    """

    target: float | None = None
    tolerance_points: float = TOLERANCE_POINTS
    max_drift_points: float = MAX_DRIFT_POINTS
    floors: Mapping[str, float] = field(default_factory=lambda: AGREEMENT_FLOORS)

    def failures(self, precision: str, accuracy: float, drift_points: float, agreement: float) -> tuple[str, ...]:
        """Compares what was measured with the limits; a value that is no number fails.

        Args:
            precision: ``fp32``, ``bf16``, ``fp16``, ``int8`` or ``int8-trt``.
            accuracy: Top-1, a fraction.
            drift_points: Accuracy less that of Keras, in percentage points.
            agreement: Share of pictures with Keras's top-1, a fraction.

        Returns:
            One phrase for each limit that is missed, none where it passes.
        """
        missed = []
        if self.target is not None:
            least = self.target - self.tolerance_points / 100
            if not accuracy >= least - _ROUNDING:
                missed.append(f"accuracy {accuracy:.2%} is below {least:.2%}")
        if not abs(drift_points) <= self.max_drift_points + _ROUNDING:
            missed.append(f"drift {drift_points:+.2f} points is beyond {self.max_drift_points:g}")
        floor = self.floors[precision]
        if not agreement >= floor - _ROUNDING:
            missed.append(f"agreement {agreement:.2%} is below {floor:.1%}")
        return tuple(missed)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; fractions and points as they are in the fields."""
        return {
            "target": self.target,
            "tolerance_points": self.tolerance_points,
            "max_drift_points": self.max_drift_points,
            "agreement_floors": dict(self.floors),
        }
