"""What runs on this machine, and whether it computes what Keras computed: what ``doctor`` tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fer_deploy.backends.base import Probabilities
from fer_deploy.backends.diagnosis import FAILED, OK, Trials, Tried, ask_driver_apart
from fer_deploy.backends.registry import backend_class
from fer_deploy.backends.select import Decision, decide, tell_settings
from fer_deploy.backends.threads import usable_cores
from fer_deploy.bundle import Bundle
from fer_deploy.errors import BundleError, UsageError
from fer_deploy.evaluation.comparison import Comparison, compare
from fer_deploy.evaluation.forms import Form
from fer_deploy.evaluation.keras_outputs import read_outputs
from fer_deploy.evaluation.probe import probe_images
from fer_deploy.evaluation.self_test import judge
from fer_deploy.machine import machine_info, vector_instructions


@dataclass(frozen=True)
class Checked:
    """One trial and how its answers compare with Keras's.

    Args:
        tried: The trial.
        comparison: None where it gave no answers or there is nothing to compare them with.
        status: ``ok``, ``skipped`` or ``failed``.
        reason: Why it is not ok.
    """

    tried: Tried
    comparison: Comparison | None
    status: str
    reason: str | None


class Wanted(NamedTuple):
    """What must run: a backend, and one of its precisions or any (None)."""

    backend: str
    precision: str | None

    def __str__(self) -> str:
        return self.backend + (f"/{self.precision}" if self.precision else "")


@dataclass(frozen=True)
class Checkup:
    """The whole finding.

    Args:
        machine: Processor, memory, software, GPUs and their driver.
        checked: A row per backend, device and precision.
        decision: What ``auto`` takes, and why.
        settings: Its batch size, streams and threads, and why: one line.
        pictures: How many the self-test ran.
        ground: What they were compared with: ``recorded`` answers of Keras, ``keras`` itself, or None.
        ground_reason: Why there was nothing to compare with.
    """

    machine: dict[str, Any]
    checked: tuple[Checked, ...]
    decision: Decision
    settings: str
    pictures: int
    ground: str | None
    ground_reason: str | None

    def rows(self) -> list[dict[str, Any]]:
        """Gives the rows of ``--json``."""
        return [self._row(checked) for checked in self.checked]

    def is_auto(self, tried: Tried) -> bool:
        """Tells whether this is what ``auto`` takes."""
        return self.decision.choice == (tried.backend, tried.precision, tried.device)

    def lacking(self, wanted: Sequence[Wanted]) -> list[str]:
        """Gives one line for each required form that does not run here."""
        return [f"{want} is required: {reason}" for want in wanted if (reason := self._why_not(want))]

    def _why_not(self, want: Wanted) -> str | None:
        of_backend = [checked for checked in self.checked if checked.tried.backend == want.backend]
        rows = [checked for checked in of_backend if want.precision in (None, checked.tried.precision)]
        if any(checked.status == OK and not checked.tried.simulated for checked in rows):
            return None
        if any(checked.tried.simulated for checked in rows):
            return "here it is a simulation only"
        barred = [checked for checked in of_backend if checked.tried.precision is None]
        for checked in (*rows, *barred):
            if checked.reason:
                return checked.reason
        return f"the bundle has no file for it in {want.precision}; make one with: fer-deploy export"

    def _row(self, checked: Checked) -> dict[str, Any]:
        tried, comparison = checked.tried, checked.comparison
        return {
            "backend": tried.backend,
            "precision": tried.precision,
            "effective": tried.effective,
            "simulated": tried.simulated,
            "device": tried.device,
            "runtime": tried.runtime,
            "importable": tried.importable,
            "version": tried.version,
            "gpu": tried.gpu,
            "auto": self.is_auto(tried),
            "n": comparison.n if comparison else None,
            "agreement": comparison.agreement if comparison else None,
            "mean_abs_difference": comparison.mean_abs_difference if comparison else None,
            "max_abs_difference": comparison.max_abs_difference if comparison else None,
            "status": checked.status,
            "reason": checked.reason,
        }

    def as_json(self) -> dict[str, Any]:
        """Gives the object of ``--json``."""
        return {
            "schema": 1,
            "machine": self.machine,
            "rows": self.rows(),
            "auto": {**self.decision.choice._asdict(), "reason": self.decision.reason, "settings": self.settings},
            "self_test": {"n": self.pictures, "ground": self.ground, "reason": self.ground_reason},
        }


def check_up(bundle: Bundle, report: Callable[[str], None] = lambda line: None, threads: int | None = None) -> Checkup:
    """Tries every backend on the probe pictures and compares with Keras's answers.

    Args:
        bundle: Whose files.
        report: Told the step that begins.
        threads: Threads of the runtimes; None leaves it to them.
    """
    report("Looking for GPUs")
    driver = ask_driver_apart()
    images = probe_images()
    tried = Trials(bundle, images, lambda what: report(f"Trying {what}"), threads).all()
    answers, ground, reason = _ground(bundle, tried)
    machine = {
        **machine_info(),
        "instructions": list(vector_instructions()),
        "usable_cores": usable_cores(),
        "driver": driver["version"],
        "cuda": driver["cuda"],
        "gpus": [dict(gpu) for gpu in driver["gpus"]],
        "gpu_reason": driver["reason"],
    }
    checked = tuple(_checked(each, answers) for each in tried)
    decision = decide(bundle)
    settings = tell_settings(bundle, decision.choice)
    return Checkup(machine, checked, decision, settings, len(images), ground, reason)


def parse_wanted(text: str) -> tuple[Wanted, ...]:
    """Reads what must run: ``backend`` or ``backend/precision``, with commas between.

    Raises:
        UsageError: There is no such backend, or it has no such precision.
    """
    return tuple(_wanted(word.strip()) for word in text.split(",") if word.strip())


def _wanted(word: str) -> Wanted:
    backend, slash, precision = word.partition("/")
    kind = backend_class(backend)
    precision = kind.aliases.get(precision, precision)
    if slash and precision not in kind.precisions:
        raise UsageError(f"The {backend} backend has no precision {precision!r}; it has: {', '.join(kind.precisions)}")
    return Wanted(backend, precision or None)


def _ground(bundle: Bundle, tried: Sequence[Tried]) -> tuple[Probabilities | None, str | None, str | None]:
    """Finds Keras's answers to the probe pictures; returns them, where they are from, and why there are none."""
    try:
        recorded = read_outputs(bundle)
    except BundleError as error:
        return None, None, str(error)
    if recorded is not None:
        return recorded.probe, "recorded", None
    for each in tried:
        if each.backend == "keras" and each.probabilities is not None:
            return each.probabilities, "keras", None
    return None, None, "the bundle holds no answers of Keras, and Keras does not run here"


def _checked(tried: Tried, ground: Probabilities | None) -> Checked:
    if ground is None or tried.probabilities is None or tried.precision is None:
        return Checked(tried, None, tried.status, tried.reason)
    comparison = compare(tried.probabilities, ground)
    missed = judge(Form(tried.backend, tried.precision), comparison)
    return Checked(tried, comparison, FAILED if missed else OK, "; ".join(missed) or None)
