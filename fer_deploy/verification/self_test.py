"""Whether the forms of a model still compute what Keras computed, on pictures that every installation has.

The probe set is drawn faces, textures and noise: it has no labels, so no accuracy is measured.
"""

from __future__ import annotations

from typing import Final

from fer_deploy.bundle.manifest import Bundle
from fer_deploy.bundle.reference_predictions import read_outputs
from fer_deploy.data.probe import probe_images
from fer_deploy.errors import UsageError
from fer_deploy.metrics.accuracy import Comparison
from fer_deploy.verification.reference import Reference, reference_of
from fer_deploy.verification.tolerances import TOLERANCES
from fer_deploy.verification.variants import KERAS, ModelVariant, Selection, check_runs, select
from fer_deploy.verification.verifier import Verification, VerificationOptions, conclude, examine

SPLIT: Final = "probe"


def self_test(
    bundle: Bundle, selection: Selection | None = None, options: VerificationOptions | None = None
) -> Verification:
    """Compares forms with Keras's answers to the probe set that the bundle holds, or with Keras where it holds none.

    Args:
        bundle: Whose forms.
        selection: Which forms; None for all but Keras, which takes seconds to load.
        options: How they are run.

    Returns:
        Rows with agreement and differences, without accuracy.

    Raises:
        MissingDependencyError, UnavailableError: A backend that was named, or all of them, cannot run here.
        UsageError: The bundle holds no answers and Keras is not installed.
        BundleError: A file is not the one that the manifest names.
    """
    options = options or VerificationOptions()
    if selection is None:
        everything = select()
        selection = Selection(tuple(variant for variant in everything.variants if variant != KERAS))
    check_runs(bundle, selection, options.device, options.threads)
    images, reference = probe_images(), _reference(bundle, options)
    examined = examine(bundle, selection, images, None, reference, judge, options)
    limits = {"limits": {precision: limits.self_test._asdict() for precision, limits in TOLERANCES.items()}}
    return conclude(SPLIT, len(images), examined, reference, limits, selection)


def _reference(bundle: Bundle, options: VerificationOptions) -> Reference:
    outputs = read_outputs(bundle)
    if outputs is not None:
        return Reference(outputs.probe, "recorded", None, ())
    try:
        return reference_of(bundle, probe_images(), options.batch, options.threads, lambda done: None)
    except UsageError as error:
        raise UsageError(
            f"The bundle {bundle.path} holds no answers of Keras to compare with, and Keras is not installed "
            "(pip install 'fer-deploy[export]'). Export it again, or verify with --data"
        ) from error


def judge(variant: ModelVariant, comparison: Comparison) -> tuple[str, ...]:
    """Gives a phrase for each limit that a form misses on the probe set."""
    limits, missed = TOLERANCES[variant.precision].self_test, []
    if not comparison.agreement >= limits.agreement:
        missed.append(f"agreement {comparison.agreement:.1%} on the probe set is below {limits.agreement:.1%}")
    if not comparison.mean_abs_difference <= limits.mean_abs_difference:
        missed.append(
            f"mean difference of a probability {comparison.mean_abs_difference:.1e} on the probe set is above "
            f"{limits.mean_abs_difference:.1e}"
        )
    return tuple(missed)
