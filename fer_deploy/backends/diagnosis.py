"""What can run here: every backend is really tried, on every device and with every precision that the bundle has.

Each trial is a process of its own (``trial``) with a time limit, so that a runtime that crashes or hangs becomes a row.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from fer_deploy.backends.base import Backend, Images, Probabilities
from fer_deploy.backends.registry import BACKENDS, backend_class
from fer_deploy.backends.trial import BEGUN, DONE, Finding, Request, start
from fer_deploy.bundle import Bundle
from fer_deploy.errors import MissingDependencyError
from fer_deploy.gpus import Driver

OK: Final = "ok"
SKIPPED: Final = "skipped"
FAILED: Final = "failed"
LIMIT_S: Final = 120.0
"""For each form: TensorFlow takes ten seconds to import from a slow disk, an engine a minute to build."""
_MADE_OF: Final = {"bf16": "fp32"}


@dataclass(frozen=True)
class Tried:
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

    def all(self) -> tuple[Tried, ...]:
        """Tries every backend."""
        return tuple(tried for name in BACKENDS for tried in self.backend(backend_class(name)))

    def backend(self, kind: type[Backend]) -> Iterator[Tried]:
        """Tries one backend on each of its devices with each precision; at least one row."""
        missing = kind.missing()
        if missing:
            what = f"What the {kind.name} backend needs ({missing[0].partition('|')[0]})"
            yield Tried(kind.name, reason=str(MissingDependencyError(what, *kind.install)))
            return
        precisions = tuple(p for p in kind.precisions if self.bundle.find(kind.format, _MADE_OF.get(p, p)))
        if not precisions:
            yield Tried(kind.name, reason=f"the bundle has no {kind.format} file in {' or '.join(kind.precisions)}")
            return
        for device in kind.devices:
            rows: list[Tried] = []
            while len(rows) < len(precisions) and not _hopeless(rows):
                rows += self._some(kind, device, precisions[len(rows) :])
            if not _hopeless(rows):
                yield from rows
                continue
            yield replace(rows[0], precision=None)  # what bars the device, or the whole runtime, is told once
            if not rows[0].importable:
                return

    def _some(self, kind: type[Backend], device: str, precisions: tuple[str, ...]) -> list[Tried]:
        """Tries precisions in one process, as far as it gets; at least one row."""
        self.report(f"{kind.name} on {device}: {', '.join(precisions)}")
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "images.npy", self.images)
            request = Request(folder, kind.name, device, precisions, str(self.bundle.path.resolve()), self.threads)
            findings, ended = start(request, self.limit_s * len(precisions))
            under_way = Tried(kind.name, precisions[0], device, status=FAILED, reason=f"importing it {ended}")
            rows: list[Tried] = []
            for finding in findings:
                event = finding.pop("event")
                if event == DONE:
                    rows.append(replace(under_way, **finding, probabilities=_answers(folder, finding)))
                else:
                    under_way = _further(under_way, event, finding, ended)
        finished = rows and rows[-1].precision == under_way.precision
        return rows if finished else [*rows, under_way]


def _further(under_way: Tried, event: str, finding: Finding, ended: str) -> Tried:
    """Notes how far a trial got, and what is to be told if it got no further."""
    if event == BEGUN:
        return replace(under_way, precision=finding["precision"], reason=f"it {ended}")
    if finding["reason"]:
        return replace(under_way, reason=f"it cannot be imported: {finding['reason']}")
    return replace(under_way, version=finding["version"] or None, importable=True, reason=f"it {ended}")


def _hopeless(rows: list[Tried]) -> bool:
    """Tells whether the first trial shows that no other precision can fare better."""
    return bool(rows) and (not rows[0].importable or (rows[0].status == SKIPPED and rows[0].device != "cpu"))


def _answers(folder: str, finding: Finding) -> Probabilities | None:
    if finding["status"] != OK:
        return None
    found: Probabilities = np.load(Path(folder) / f"{finding['precision']}.npy", allow_pickle=False)
    return found


def ask_driver_apart(limit_s: float = 30.0) -> Driver:
    """Asks the GPU's driver in a process of its own; see ``gpus.ask_driver``."""
    with tempfile.TemporaryDirectory() as folder:
        findings, ended = start(Request(folder), limit_s)
    if findings:
        answer: Driver = findings[0]["driver"]
        return answer
    return {"version": None, "cuda": None, "gpus": [], "reason": f"asking the driver {ended}"}
