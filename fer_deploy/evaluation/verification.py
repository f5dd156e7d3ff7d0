"""The proof: every form of a model on real pictures, beside Keras, held to the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fer_deploy.bundle import Bundle
from fer_deploy.data.fer2013 import Partition
from fer_deploy.errors import UnavailableError
from fer_deploy.evaluation.comparison import Comparison
from fer_deploy.evaluation.forms import KERAS, Form, Selection, check_runs
from fer_deploy.evaluation.gate import Gate
from fer_deploy.evaluation.ground import Ground, ground_of
from fer_deploy.evaluation.rows import FAILED, OK, SKIPPED, Examined, Options, Row, examine


@dataclass(frozen=True)
class Verification:
    """The outcome.

    Args:
        split: ``PublicTest``, ``PrivateTest``, ``Test``, or ``probe``.
        n: Pictures.
        examined: A row per form with its answers.
        ground: What they were compared with.
        limits: The gate, for JSON.
        failures: One line for each form that failed or is required and did not run; none where all is well.
        tta: How more than one look at a picture made its answer; None where one did.
    """

    split: str
    n: int
    examined: tuple[Examined, ...]
    ground: Ground
    limits: dict[str, Any]
    failures: tuple[str, ...]
    tta: str | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows alone."""
        return tuple(each.row for each in self.examined)

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures


def verify(
    bundle: Bundle,
    partition: Partition,
    split: str,
    selection: Selection,
    gate: Gate,
    options: Options | None = None,
    ground: Ground | None = None,
) -> Verification:
    """Verifies a bundle on labelled pictures.

    Args:
        bundle: Whose forms.
        partition: The pictures.
        split: The partition's name.
        selection: Which forms.
        gate: What they must reach.
        options: How they are run.
        ground: Keras's answers to these pictures; None to ask Keras, or the bundle's record where it is not installed.

    Raises:
        MissingDependencyError, UnavailableError: A backend that was named, or all of them, cannot run here.
        UsageError: Keras is not installed and nothing is recorded of these pictures.
        BundleError: A file is not the one that the manifest names.
        BackendError, ModelError: Keras itself cannot run the model.
    """
    options = options or Options()
    check_runs(bundle, selection, options.device, options.threads)
    images = np.ascontiguousarray(partition.images[..., None])

    def count(done: int) -> None:
        options.progress(str(KERAS), done, len(images))

    if ground is None:
        count(0)
        ground = ground_of(bundle, images, options.batch, options.threads, count, options.tta)

    def judge(form: Form, comparison: Comparison) -> tuple[str, ...]:
        accuracy = comparison.score.accuracy if comparison.score else float("nan")
        drift = float("nan") if comparison.drift_points is None else comparison.drift_points
        return gate.failures(form.precision, accuracy, drift, comparison.agreement)

    examined = examine(bundle, selection, images, partition.labels, ground, judge, options)
    return replace(conclude(split, len(images), examined, ground, gate.as_dict(), selection), tta=options.tta)


def conclude(
    split: str, n: int, examined: Sequence[Examined], ground: Ground, limits: dict[str, Any], selection: Selection
) -> Verification:
    """Draws up what failed: forms that missed a limit, and required ones that did not really run.

    Raises:
        UnavailableError: None of the selected forms ran, so that nothing would be proved.
    """
    rows = [each.row for each in examined]
    none_ran = all(row.status == SKIPPED for row in rows if row.form in selection.forms)
    if none_ran and not selection.required:
        reasons = dict.fromkeys(row.reason or "" for row in rows if row.status == SKIPPED)
        raise UnavailableError(f"Nothing can be verified here: {'; '.join(reasons)}")
    failures = []
    for row in rows:
        if row.status == FAILED:
            failures.append(f"{row.form}: {row.reason}")
        elif row.form in selection.required and (row.status != OK or row.simulated):
            failures.append(f"{row.form} is required and did not run: {row.reason}")
    return Verification(split, n, tuple(examined), ground, limits, tuple(failures))
