"""One row per form of a model: run, compared with Keras, judged.

The proof: every form of a model on real pictures, beside Keras, held to the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.backends.base import Images, Probabilities
from fer_deploy.backends.registry import backend_class
from fer_deploy.backends.tta import with_tta
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.data.fer2013 import Partition
from fer_deploy.errors import BackendError, MissingDependencyError, ModelError, UnavailableError
from fer_deploy.metrics.accuracy import Comparison, compare
from fer_deploy.metrics.calibration import reliability
from fer_deploy.system.machine import machine_info
from fer_deploy.verification.reference import Measured, Reference, measure, reference_of
from fer_deploy.verification.tolerances import Gate
from fer_deploy.verification.variants import AUTO, KERAS, ModelVariant, Selection, check_runs, open_or_simulate

OK: Final = "ok"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
Judge = Callable[[ModelVariant, Comparison], tuple[str, ...]]
"""Gives a phrase for each limit that a form misses."""
Progress = Callable[[str, int, int], None]
"""Called with what is under way, pictures done and their total."""


@dataclass(frozen=True)
class VerificationOptions:
    """How forms are run.

    Args:
        batch: Pictures per batch.
        threads: Threads of the runtimes; None leaves it to them.
        device: ``auto``, ``cpu``, ``cuda``, ...
        progress: Told how far it is.
        tta: ``flip`` for the mean of the answers to a picture and to its mirror image.
    """

    batch: int = 64
    threads: int | None = None
    device: str = AUTO
    progress: Progress = lambda text, done, total: None
    tta: str | None = None


@dataclass(frozen=True)
class VariantRow:
    """What a row of any command begins with; see ``VerificationRow``."""

    backend: str
    precision: str
    effective: str | None = None
    simulated: bool = False
    device: str | None = None
    runtime: str | None = None
    machine: str | None = None

    @property
    def variant(self) -> ModelVariant:
        """Backend and precision."""
        return ModelVariant(self.backend, self.precision)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class VerificationRow(VariantRow):
    """One form and what became of it; figures are None where it did not run.

    Args:
        backend: ``keras``, ``onnx``, ``openvino`` or ``trt``.
        precision: Of the artefact, or ``bf16``.
        effective: What the runtime computed in.
        simulated: Whether another runtime stood in; then there is no speed.
        device: ``cpu``, ``cuda``, ...
        runtime: Name and version.
        machine: CPU class or GPU.
        mode: ``throughput``: batches are streamed.
        batch: Pictures per batch.
        n: Pictures.
        accuracy: A fraction; this and the next five are None without labels too.
        interval: 95 % confidence interval of the accuracy (Wilson).
        drift_points: Accuracy less Keras's, in percentage points.
        drift_p: McNemar's exact p of the drift.
        class_accuracy: Share of each class's pictures that are told rightly.
        ece: Expected calibration error, a fraction (``reliability``).
        agreement: Share of pictures with Keras's top-1.
        mean_abs_difference: Of a probability, over all pictures and classes.
        max_abs_difference: The largest.
        images_per_s: Throughput.
        artefact_sha256: Of the model file that ran.
        status: ``ok``, ``failed`` or ``skipped``.
        reason: Why it failed or was skipped, or why it is simulated.
    """

    mode: str = "throughput"
    batch: int | None = None
    n: int | None = None
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    drift_points: float | None = None
    drift_p: float | None = None
    class_accuracy: dict[str, float] | None = None
    ece: float | None = None
    agreement: float | None = None
    mean_abs_difference: float | None = None
    max_abs_difference: float | None = None
    images_per_s: float | None = None
    artefact_sha256: str | None = None
    status: str = SKIPPED
    reason: str | None = None


@dataclass(frozen=True)
class Examined:
    """A row and the answers behind it; None where it gave none."""

    row: VerificationRow
    probabilities: Probabilities | None = None


def examine(
    bundle: Bundle,
    selection: Selection,
    images: Images,
    labels: NDArray[Any] | None,
    reference: Reference,
    judge: Judge,
    options: VerificationOptions,
) -> list[Examined]:
    """Runs every selected form over the pictures and judges it; Keras comes first where it is the ground.

    Args:
        bundle: The forms' files.
        selection: Which forms.
        images: uint8, shape (N, 48, 48, 1).
        labels: Shape (N,); None where there are none.
        reference: Keras's answers to the pictures.
        judge: Tells what is missed.
        options: How to run.

    Raises:
        BundleError: A file is not the one that the manifest names: nothing is run on trust.
    """
    found = []
    if reference.measured is not None:
        found.append(_judged(bundle, KERAS, reference.measured, reference, labels, judge, options.batch))
    for variant in selection.variants:
        if variant == KERAS and reference.source == "keras":
            continue
        found.append(_examine(bundle, variant, images, labels, reference, judge, options))
    return found


def _examine(
    bundle: Bundle,
    variant: ModelVariant,
    images: Images,
    labels: NDArray[Any] | None,
    reference: Reference,
    judge: Judge,
    options: VerificationOptions,
) -> Examined:
    try:
        options.progress(str(variant), 0, len(images))
        opened, instead = open_or_simulate(bundle, variant, options.device, options.threads)
        with with_tta(opened, options.tta) as backend:
            count = lambda done: options.progress(str(variant), done, len(images))  # noqa: E731
            measured = measure(backend, images, options.batch, count)
    except (MissingDependencyError, UnavailableError) as error:
        return Examined(VerificationRow(*variant, status=SKIPPED, reason=str(error)))
    except (BackendError, ModelError) as error:
        return Examined(_broken(bundle, variant, len(images), str(error), options))
    found = _judged(bundle, variant, measured, reference, labels, judge, options.batch)
    if found.row.status == OK and instead:
        return replace(found, row=replace(found.row, reason=f"simulated with {measured.runtime}, since {instead}"))
    return found


def _broken(
    bundle: Bundle, variant: ModelVariant, n: int, reason: str, options: VerificationOptions
) -> VerificationRow:
    """Makes the row of a form that can run here and gave no answers."""
    device = options.device if options.device != AUTO else backend_class(variant.backend).devices[0]
    artefact = bundle.find(*variant.artefact)
    return VerificationRow(
        *variant,
        device=device,
        machine=machine_info()["cpu_class"] if device == "cpu" else None,
        batch=options.batch,
        n=n,
        artefact_sha256=artefact.sha256 if artefact else None,
        status=FAILED,
        reason=reason,
    )


def _judged(
    bundle: Bundle,
    variant: ModelVariant,
    measured: Measured,
    reference: Reference,
    labels: NDArray[Any] | None,
    judge: Judge,
    batch: int,
) -> Examined:
    comparison = compare(measured.probabilities, reference.probabilities, labels)
    missed = judge(variant, comparison)
    artefact = bundle.find(*variant.artefact)
    score = comparison.score
    row = VerificationRow(
        *variant,
        effective=measured.effective,
        simulated=measured.simulated,
        device=measured.device,
        runtime=measured.runtime,
        machine=measured.machine,
        batch=batch,
        n=comparison.n,
        accuracy=score.accuracy if score else None,
        interval=score.interval if score else None,
        drift_points=comparison.drift_points,
        drift_p=comparison.drift_p,
        class_accuracy={c.label: c.recall for c in score.classes if c.support} if score else None,
        ece=reliability(measured.probabilities, labels).ece if labels is not None else None,
        agreement=comparison.agreement,
        mean_abs_difference=comparison.mean_abs_difference,
        max_abs_difference=comparison.max_abs_difference,
        images_per_s=None if measured.simulated else measured.images_per_s,
        artefact_sha256=artefact.sha256 if artefact else None,
        status=FAILED if missed else OK,
        reason="; ".join(missed) or None,
    )
    return Examined(row, measured.probabilities)


@dataclass(frozen=True)
class Verification:
    """The outcome.

    Args:
        split: ``PublicTest``, ``PrivateTest``, ``Test``, or ``probe``.
        n: Pictures.
        examined: A row per form with its answers.
        reference: What they were compared with.
        limits: The gate, for JSON.
        failures: One line for each form that failed or is required and did not run; none where all is well.
        tta: How more than one look at a picture made its answer; None where one did.
    """

    split: str
    n: int
    examined: tuple[Examined, ...]
    reference: Reference
    limits: dict[str, Any]
    failures: tuple[str, ...]
    tta: str | None = None

    @property
    def rows(self) -> tuple[VerificationRow, ...]:
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
    options: VerificationOptions | None = None,
    reference: Reference | None = None,
) -> Verification:
    """Verifies a bundle on labelled pictures.

    Args:
        bundle: Whose forms.
        partition: The pictures.
        split: The partition's name.
        selection: Which forms.
        gate: What they must reach.
        options: How they are run.
        reference: Keras's predictions for these images; None to ask Keras, or the bundle's record where it is not
            installed.

    Raises:
        MissingDependencyError, UnavailableError: A backend that was named, or all of them, cannot run here.
        UsageError: Keras is not installed and nothing is recorded of these pictures.
        BundleError: A file is not the one that the manifest names.
        BackendError, ModelError: Keras itself cannot run the model.
    """
    options = options or VerificationOptions()
    check_runs(bundle, selection, options.device, options.threads)
    images = np.ascontiguousarray(partition.images[..., None])

    def count(done: int) -> None:
        options.progress(str(KERAS), done, len(images))

    if reference is None:
        count(0)
        reference = reference_of(bundle, images, options.batch, options.threads, count, options.tta)

    def judge(variant: ModelVariant, comparison: Comparison) -> tuple[str, ...]:
        accuracy = comparison.score.accuracy if comparison.score else float("nan")
        drift = float("nan") if comparison.drift_points is None else comparison.drift_points
        return gate.failures(variant.precision, accuracy, drift, comparison.agreement)

    examined = examine(bundle, selection, images, partition.labels, reference, judge, options)
    return replace(conclude(split, len(images), examined, reference, gate.as_dict(), selection), tta=options.tta)


def conclude(
    split: str, n: int, examined: Sequence[Examined], reference: Reference, limits: dict[str, Any], selection: Selection
) -> Verification:
    """Draws up what failed: forms that missed a limit, and required ones that did not really run.

    Raises:
        UnavailableError: None of the selected forms ran, so that nothing would be proved.
    """
    rows = [each.row for each in examined]
    none_ran = all(row.status == SKIPPED for row in rows if row.variant in selection.variants)
    if none_ran and not selection.required:
        reasons = dict.fromkeys(row.reason or "" for row in rows if row.status == SKIPPED)
        raise UnavailableError(f"Nothing can be verified here: {'; '.join(reasons)}")
    failures = []
    for row in rows:
        if row.status == FAILED:
            failures.append(f"{row.variant}: {row.reason}")
        elif row.variant in selection.required and (row.status != OK or row.simulated):
            failures.append(f"{row.variant} is required and did not run: {row.reason}")
    return Verification(split, n, tuple(examined), reference, limits, tuple(failures))
