"""What ``auto`` means: which backend, precision and device are taken when the user does not say."""

from __future__ import annotations

from typing import Final, NamedTuple

from fer_deploy.backends.base import Backend, BackendSettings
from fer_deploy.backends.registry import BACKENDS, MEASURING, backend_class
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.bundle.records import Record, Tuned
from fer_deploy.bundle.store import recorded, tuned_for
from fer_deploy.errors import UsageError
from fer_deploy.system.gpus import gpu_names
from fer_deploy.system.machine import cpu_class, cpu_flags, usable_cores

AUTO = "auto"
_ORDER: Final = ("openvino", "onnx", "trt", "keras")
"""Which backend is taken where nothing was measured; OpenVINO is what every installation has."""


class BackendChoice(NamedTuple):
    """Names that ``open_backend`` takes as they are."""

    backend: str
    precision: str
    device: str


class Decision(NamedTuple):
    """A choice and why it was made, for people to read."""

    choice: BackendChoice
    reason: str


def choose(bundle: Bundle, backend: str = AUTO, precision: str = AUTO, device: str = AUTO) -> BackendChoice:
    """Fills in what was left open; see ``decide``."""
    return decide(bundle, backend, precision, device).choice


def decide(bundle: Bundle, backend: str = AUTO, precision: str = AUTO, device: str = AUTO) -> Decision:
    """Fills in what was left open: the fastest that is installed and was verified on such a machine.

    Where nothing was verified on this class of CPU, it is OpenVINO: in int8 if another CPU's record vouches for the
    file and none speaks against it, since int8 files are made to give the same answers on all of them; else in fp32.
    What the user named is never changed. No runtime is imported, so that this takes milliseconds.

    Raises:
        UsageError: There is no backend of that name, or it is one that answers without computing.
    """
    if backend in MEASURING:
        raise UsageError(f"The {backend} backend computes nothing: it is for fer-deploy bench alone")
    if backend != AUTO:
        precision = backend_class(backend).aliases.get(precision, precision)
    asked = BackendChoice(backend, precision, device)
    if AUTO not in asked:
        return Decision(asked, "as asked for")
    records = recorded(bundle)
    fitting = [record for record in _passed(records) if _fits(record, asked) and _is_here(record)]
    if fitting:
        best = max(fitting, key=lambda record: record.images_per_s)
        return Decision(
            BackendChoice(best.backend, best.precision, best.device), _why(best, len({_variant(r) for r in fitting}))
        )
    return _unmeasured(bundle, records, asked)


def open_backend(
    bundle: Bundle,
    backend: str = AUTO,
    precision: str = AUTO,
    device: str = AUTO,
    threads: int | None = None,
    tta: str | None = None,
) -> Backend:
    """Chooses a backend and opens it with the settings of ``settle``; see ``Backend.open`` for what it raises.

    With ``tta="flip"`` it answers with the mean of what it gives for a picture and for its mirror image.
    """
    if tta is not None:
        from fer_deploy.backends.tta import check_tta, with_tta

        check_tta(tta)
        return with_tta(open_backend(bundle, backend, precision, device, threads), tta)
    choice = choose(bundle, backend, precision, device)
    opened = backend_class(choice.backend)(bundle, choice.precision, choice.device, threads)
    opened.settings = tuned_settings(bundle, choice, threads)
    return opened.open()


def tuned_settings(bundle: Bundle, choice: BackendChoice, threads: int | None = None) -> BackendSettings:
    """Gives the settings that ``bench --tune`` found for a form on such a machine; none where it found none.

    Args:
        bundle: Whose records.
        choice: Which form; none of it ``auto``.
        threads: What the user named. Streams that were measured with another number are left to the runtime then.
    """
    tuned = _tuned(bundle, choice)
    if tuned is None:
        return BackendSettings()
    if threads not in (None, tuned.threads):
        return BackendSettings(batch=tuned.batch)
    return BackendSettings(tuned.threads or None, tuned.streams or None, tuned.batch)


def describe_settings(bundle: Bundle, choice: BackendChoice) -> str:
    """Words what ``settle`` gives and why, on one line."""
    settings = tuned_settings(bundle, choice)
    reported = f"batch {settings.batch or backend_class(choice.backend).default_batch}"
    for name, count in (("streams", settings.streams), ("threads", settings.threads)):
        reported += f", {name} {count or 'as the runtime sets'}"
    tuned = _tuned(bundle, choice)
    if tuned is None:
        return f"{reported}: not tuned on such a machine; run: fer-deploy bench --tune"
    where = f"{tuned.machine} with {tuned.cores} cores" if tuned.device == "cpu" else tuned.machine
    return f"{reported}: tuned on {where}, {tuned.gain:.2f} times as fast as untuned"


def _tuned(bundle: Bundle, choice: BackendChoice) -> Tuned | None:
    """Finds the record of a form on such a machine; on a GPU the number of cores does not matter."""
    fitting = [tuned for tuned in tuned_for(bundle) if (tuned.backend, tuned.precision, tuned.device) == choice]
    if not fitting:
        return None
    if choice.device != "cpu":
        return next((tuned for tuned in fitting if tuned.machine in gpu_names()), None)
    here = (cpu_class(" ".join(cpu_flags())), usable_cores())
    return next((tuned for tuned in fitting if (tuned.machine, tuned.cores) == here), None)


def _variant(record: Record) -> tuple[str, str, str, str]:
    return (record.backend, record.precision, record.device, record.machine)


def _passed(records: tuple[Record, ...]) -> list[Record]:
    """Takes what passed on every split that it was measured on."""
    failed = {_variant(record) for record in records if record.status != "ok"}
    return [record for record in records if _variant(record) not in failed and not record.simulated]


def _fits(record: Record, asked: BackendChoice) -> bool:
    """Tells whether a record is of something that exists and that the request leaves open."""
    if record.backend not in BACKENDS:
        return False
    kind = backend_class(record.backend)
    exists = record.precision in kind.precisions and record.device in kind.devices
    found = (record.backend, record.precision, record.device)
    return exists and all(want in (AUTO, have) for want, have in zip(asked, found, strict=True))


def _is_here(record: Record) -> bool:
    """Tells whether this machine is of the kind that was measured, and has the runtime."""
    here = (cpu_class(" ".join(cpu_flags())),) if record.device == "cpu" else gpu_names()
    return record.machine in here and backend_class(record.backend).is_installed()


def _why(best: Record, count: int) -> str:
    where = f"{best.machine} CPUs" if best.device == "cpu" else best.machine
    speed = f"{best.images_per_s:,.0f} images/s, {best.accuracy:.2%} on {best.split}"
    return f"the fastest of {count} verified on {where}: {speed}" if count > 1 else f"verified on {where}: {speed}"


def _unmeasured(bundle: Bundle, records: tuple[Record, ...], asked: BackendChoice) -> Decision:
    """Decides where no record is of such a machine."""
    reason = "nothing is verified on such a machine; run: fer-deploy verify --record"
    backend = _backend_for(bundle, asked) if asked.backend == AUTO else asked.backend
    precision = asked.precision
    if precision == AUTO:
        precision = "fp32"
        others = _vouching(records)
        if backend == "openvino" and asked.device in (AUTO, "cpu") and others:
            precision = "int8"
            reason = f"int8 was verified on {', '.join(others)} and answers alike on every CPU; {reason}"
    device = backend_class(backend).devices[0] if asked.device == AUTO else asked.device
    return Decision(BackendChoice(backend, precision, device), reason)


def _vouching(records: tuple[Record, ...]) -> list[str]:
    """Lists the classes of CPU on which OpenVINO's int8 passed; none if it failed on any."""
    int8 = [record for record in records if _variant(record)[:3] == ("openvino", "int8", "cpu")]
    return sorted({record.machine for record in int8}) if all(record.status == "ok" for record in int8) else []


def _backend_for(bundle: Bundle, asked: BackendChoice) -> str:
    """Takes the first backend that has what was asked for and that the bundle has a file for, installed ones first."""
    formats = {artefact.format for artefact in bundle.artefacts}
    kinds = [backend_class(name) for name in _ORDER if name in BACKENDS]
    able = [
        kind
        for kind in kinds
        if kind.format in formats
        and asked.device in (AUTO, *kind.devices)
        and asked.precision in (AUTO, *kind.precisions)
        and (asked.precision != "int8-trt" or kind.name == "trt")  # elsewhere it is a simulation
    ]
    able.sort(key=lambda kind: not kind.is_installed())
    return able[0].name if able else "openvino" if "onnx" in formats else "keras"
