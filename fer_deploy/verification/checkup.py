"""What can run here: every backend is really tried, on every device and with every precision that the bundle has.

Each trial is a process of its own (``trial``) with a time limit, so that a runtime that crashes or hangs becomes a row.

What runs on this machine, and whether it computes what Keras computed: what ``doctor`` tells.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from fer_deploy.backends.base import Backend, Images, Probabilities
from fer_deploy.backends.registry import BACKENDS, backend_class
from fer_deploy.backends.select import Decision, decide, describe_settings
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.bundle.reference_predictions import read_outputs
from fer_deploy.data.probe import probe_images
from fer_deploy.errors import BundleError, MissingDependencyError, UsageError
from fer_deploy.metrics.accuracy import Comparison, compare
from fer_deploy.system.gpus import Driver
from fer_deploy.system.machine import machine_info, usable_cores, vector_instructions
from fer_deploy.verification.self_test import judge
from fer_deploy.verification.trial import DONE, STARTED, Finding, Request, start
from fer_deploy.verification.variants import ModelVariant

OK: Final = "ok"
SKIPPED: Final = "skipped"
FAILED: Final = "failed"
LIMIT_S: Final = 120.0
"""For each form: TensorFlow takes ten seconds to import from a slow disk, an engine a minute to build."""
_MADE_OF: Final = {"bf16": "fp32"}


@dataclass(frozen=True)
class TrialResult:
    """One form of the model on one device, and what became of it.

    Args:
        backend: Its name.
        precision: Of the bundle's file, or one that the runtime makes of fp32; None where it did not come to that.
        device: ``cpu``, ``cuda``, ...; None where it did not come to that.
        effective: What it computed in.
        simulated: Whether it stands in for the runtime that the file is for.
        runtime: Name and version.
        version: Of the runtime's package; None where it cannot be imported.
        importable: Whether the runtime's package can be imported.
        gpu: The GPU's name where it ran on one.
        status: ``ok`` (it ran), ``skipped`` (it cannot run here) or ``failed`` (it should have).
        reason: Why it is not ok.
        probabilities: Its answers, float32, shape (N, 7); None where it gave none.
    """

    backend: str
    precision: str | None = None
    device: str | None = None
    effective: str | None = None
    simulated: bool = False
    runtime: str | None = None
    version: str | None = None
    importable: bool = False
    gpu: str | None = None
    status: str = SKIPPED
    reason: str | None = None
    probabilities: Probabilities | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Trials:
    """How backends are tried.

    Args:
        bundle: Whose files.
        images: What every form runs, as one batch; uint8, shape (N, 48, 48, 1).
        report: Told what is being tried.
        threads: Threads of the runtimes; None leaves it to them.
        limit_s: Seconds for each form.
    """

    bundle: Bundle
    images: Images
    report: Callable[[str], None] = lambda line: None
    threads: int | None = None
    limit_s: float = LIMIT_S

    def all(self) -> tuple[TrialResult, ...]:
        """Tries every backend."""
        return tuple(tried for name in BACKENDS for tried in self.backend(backend_class(name)))

    def backend(self, kind: type[Backend]) -> Iterator[TrialResult]:
        """Tries one backend on each of its devices with each precision; at least one row."""
        missing = kind.missing()
        if missing:
            what = f"What the {kind.name} backend needs ({missing[0].partition('|')[0]})"
            yield TrialResult(kind.name, reason=str(MissingDependencyError(what, *kind.install)))
            return
        precisions = tuple(p for p in kind.precisions if self.bundle.find(kind.format, _MADE_OF.get(p, p)))
        if not precisions:
            yield TrialResult(
                kind.name, reason=f"the bundle has no {kind.format} file in {' or '.join(kind.precisions)}"
            )
            return
        for device in kind.devices:
            rows: list[TrialResult] = []
            while len(rows) < len(precisions) and not _hopeless(rows):
                rows += self._some(kind, device, precisions[len(rows) :])
            if not _hopeless(rows):
                yield from rows
                continue
            yield replace(rows[0], precision=None)  # what bars the device, or the whole runtime, is told once
            if not rows[0].importable:
                return

    def _some(self, kind: type[Backend], device: str, precisions: tuple[str, ...]) -> list[TrialResult]:
        """Tries precisions in one process, as far as it gets; at least one row."""
        self.report(f"{kind.name} on {device}: {', '.join(precisions)}")
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "images.npy", self.images)
            request = Request(folder, kind.name, device, precisions, str(self.bundle.path.resolve()), self.threads)
            findings, ended = start(request, self.limit_s * len(precisions))
            under_way = TrialResult(kind.name, precisions[0], device, status=FAILED, reason=f"importing it {ended}")
            rows: list[TrialResult] = []
            for finding in findings:
                event = finding.pop("event")
                if event == DONE:
                    rows.append(replace(under_way, **finding, probabilities=_predictions(folder, finding)))
                else:
                    under_way = _further(under_way, event, finding, ended)
        finished = rows and rows[-1].precision == under_way.precision
        return rows if finished else [*rows, under_way]


def _further(under_way: TrialResult, event: str, finding: Finding, ended: str) -> TrialResult:
    """Notes how far a trial got, and what is to be told if it got no further."""
    if event == STARTED:
        return replace(under_way, precision=finding["precision"], reason=f"it {ended}")
    if finding["reason"]:
        return replace(under_way, reason=f"it cannot be imported: {finding['reason']}")
    return replace(under_way, version=finding["version"] or None, importable=True, reason=f"it {ended}")


def _hopeless(rows: list[TrialResult]) -> bool:
    """Tells whether the first trial shows that no other precision can fare better."""
    return bool(rows) and (not rows[0].importable or (rows[0].status == SKIPPED and rows[0].device != "cpu"))


def _predictions(folder: str, finding: Finding) -> Probabilities | None:
    if finding["status"] != OK:
        return None
    found: Probabilities = np.load(Path(folder) / f"{finding['precision']}.npy", allow_pickle=False)
    return found


def ask_driver_apart(limit_s: float = 30.0) -> Driver:
    """Asks the GPU's driver in a process of its own; see ``gpus.ask_driver``."""
    with tempfile.TemporaryDirectory() as folder:
        findings, ended = start(Request(folder), limit_s)
    if findings:
        prediction: Driver = findings[0]["driver"]
        return prediction
    return {"version": None, "cuda": None, "gpus": [], "reason": f"asking the driver {ended}"}


@dataclass(frozen=True)
class Checked:
    """One trial and how its answers compare with Keras's.

    Args:
        tried: The trial.
        comparison: None where it gave no answers or there is nothing to compare them with.
        status: ``ok``, ``skipped`` or ``failed``.
        reason: Why it is not ok.
    """

    tried: TrialResult
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
        images: How many the self-test ran.
        reference: What they were compared with: ``recorded`` answers of Keras, ``keras`` itself, or None.
        reference_reason: Why there was nothing to compare with.
    """

    machine: dict[str, Any]
    checked: tuple[Checked, ...]
    decision: Decision
    settings: str
    images: int
    reference: str | None
    reference_reason: str | None

    def rows(self) -> list[dict[str, Any]]:
        """Gives the rows of ``--json``."""
        return [self._row(checked) for checked in self.checked]

    def is_auto(self, tried: TrialResult) -> bool:
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
            "self_test": {"n": self.images, "ground": self.reference, "reason": self.reference_reason},
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
    predictions, reference, reason = _reference(bundle, tried)
    machine = {
        **machine_info(),
        "instructions": list(vector_instructions()),
        "usable_cores": usable_cores(),
        "driver": driver["version"],
        "cuda": driver["cuda"],
        "gpus": [dict(gpu) for gpu in driver["gpus"]],
        "gpu_reason": driver["reason"],
    }
    checked = tuple(_checked(each, predictions) for each in tried)
    decision = decide(bundle)
    settings = describe_settings(bundle, decision.choice)
    return Checkup(machine, checked, decision, settings, len(images), reference, reason)


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


def _reference(bundle: Bundle, tried: Sequence[TrialResult]) -> tuple[Probabilities | None, str | None, str | None]:
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


def _checked(tried: TrialResult, reference: Probabilities | None) -> Checked:
    if reference is None or tried.probabilities is None or tried.precision is None:
        return Checked(tried, None, tried.status, tried.reason)
    comparison = compare(tried.probabilities, reference)
    missed = judge(ModelVariant(tried.backend, tried.precision), comparison)
    return Checked(tried, comparison, FAILED if missed else OK, "; ".join(missed) or None)
