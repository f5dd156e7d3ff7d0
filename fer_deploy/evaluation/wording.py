"""What a verification says in words, the same on the terminal and in its report."""

from __future__ import annotations

from fer_deploy.evaluation.rows import SKIPPED
from fer_deploy.evaluation.self_test import SPLIT
from fer_deploy.evaluation.verification import Verification


def ground_line(verification: Verification) -> str:
    """Names what the forms were compared with."""
    ground = verification.ground
    if ground.measured is not None:
        tta = verification.tta
        twice = f"; --tta {tta}: every answer is the mean of those to a picture and to its mirror image" if tta else ""
        return f"Compared with {ground.measured.runtime}, which ran here{twice}"
    if verification.split == SPLIT:
        return "Compared with Keras's answers that the bundle holds"
    return "Compared with Keras's answers that the bundle holds; Keras itself did not run"


def gate_lines(verification: Verification) -> list[str]:
    """Tells the limits, one line each; of a self-test those of the precisions that ran."""
    limits = verification.limits
    ran = {row.precision for row in verification.rows if row.status != SKIPPED}
    if "limits" in limits:
        return [
            f"Limits of {precision}: same top-1 at least {100 * limit['agreement']:g} %, "
            f"mean difference of a probability at most {limit['mean_abs_difference']:g}"
            for precision, limit in limits["limits"].items()
            if precision in ran
        ]
    floors = ", ".join(f"{precision} {100 * floor:g} %" for precision, floor in limits["agreement_floors"].items())
    lines = [
        f"Gate: at most {limits['max_drift_points']:g} points from Keras's accuracy, up or down",
        f"Gate: same top-1 at least {floors}",
    ]
    if limits["target"] is None:
        return ["Accuracy is not gated: the bundle has no target (give one with --target)", *lines]
    target, tolerance = 100 * limits["target"], limits["tolerance_points"]
    return [f"Gate: accuracy at least {target - tolerance:.2f} % (target {target:.2f} % less {tolerance:g})", *lines]


def skipped_lines(verification: Verification) -> list[str]:
    """Tells what did not run and why, forms of the same reason on one line."""
    by_reason: dict[str, list[str]] = {}
    for row in verification.rows:
        if row.status == SKIPPED:
            by_reason.setdefault(row.reason or "", []).append(str(row.form))
    return [f"skipped {', '.join(forms)}: {reason}" for reason, forms in by_reason.items()]


def outcome_line(verification: Verification) -> str:
    """Sums up in one line."""
    ran = sum(row.status != SKIPPED for row in verification.rows)
    if verification.passed:
        what = (
            "no accuracy was measured (give FER-2013 with --data)" if verification.split == SPLIT else "accuracy held"
        )
        return f"Passed: {ran} forms, {what}"
    return f"FAILED: {len(verification.failures)} of the forms that ran or were required ({ran} ran)"
