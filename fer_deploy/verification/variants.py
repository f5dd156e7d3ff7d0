"""Which forms of a model are verified or measured: a backend and a precision each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from fer_deploy.backends.base import Backend, BackendSettings
from fer_deploy.backends.registry import BACKENDS, MEASURING, backend_class
from fer_deploy.backends.select import BackendChoice, settle
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import BackendError, MissingDependencyError, ModelError, UnavailableError, UsageError

ALL: Final = "all"
AUTO: Final = "auto"


class Form(NamedTuple):
    """A backend and a precision that it can be asked for."""

    backend: str
    precision: str

    def __str__(self) -> str:
        return f"{self.backend}/{self.precision}"

    @property
    def artefact(self) -> tuple[str, str]:
        """Format and precision of the bundle's file that it is made of."""
        format = "keras" if self.backend == "keras" else "onnx"
        return format, "fp32" if self.precision == "bf16" else self.precision


KERAS: Final = Form("keras", "fp32")
NULL: Final = Form("null", "fp32")
"""Computes nothing and takes no file: what is left is the cost of measuring."""
TRT_INT8: Final = Form("trt", "int8-trt")
SIMULATION: Final = Form("onnx", "int8-trt")
"""Stands in for ``TRT_INT8`` where TensorRT cannot run, and is no form of its own."""


@dataclass(frozen=True)
class Selection:
    """What one verification or measurement looks at.

    Args:
        forms: In the order of tables.
        named: Backends that the user named, so that one of them not running is an error.
        required: Forms that must really run and pass.
    """

    forms: tuple[Form, ...]
    named: frozenset[str] = frozenset()
    required: frozenset[Form] = frozenset()


def all_forms() -> tuple[Form, ...]:
    """Every form that there is, of all backends, in the order of tables."""
    forms = [Form(name, precision) for name in BACKENDS for precision in backend_class(name).precisions]
    if TRT_INT8 not in forms:
        forms.append(TRT_INT8)
    return tuple(form for form in forms if form != SIMULATION)


def select(backends: str = ALL, precisions: str = ALL, require: str = "", extra: tuple[Form, ...] = ()) -> Selection:
    """Makes a selection of what a user wrote.

    Args:
        backends: ``all``, or names with commas between.
        precisions: ``all``, or names with commas between; ``int8`` takes in TensorRT's ``int8-trt``.
        require: Forms as ``backend/precision`` with commas between; looked at even where the others leave them out.
        extra: Forms that there are beside those of ``all_forms``.

    Raises:
        UsageError: There is no such backend, precision or form.
    """
    known = (*all_forms(), *extra)
    named = _words(backends)
    wanted = _words(precisions)
    required = frozenset(_form(word, known) for word in _words(require))
    for name in named:
        _check(name, "backend", (form.backend for form in known))
    for name in wanted:
        _check(name, "precision", (form.precision for form in known))
    forms = tuple(
        form
        for form in known
        if form in required or ((not named or form.backend in named) and (not wanted or _names(form) & set(wanted)))
    )
    if not forms:
        raise UsageError(f"No form is left: {backends} has no precision {precisions}")
    return Selection(forms, frozenset(named), required)


def open_form(
    bundle: Bundle,
    form: Form,
    device: str = AUTO,
    threads: int | None = None,
    settings: BackendSettings | None = None,
    **options: Any,
) -> Backend:
    """Opens a form with given settings, else with those that ``bench --tune`` found here.

    ``options`` are those that its backend alone has.

    Raises:
        MissingDependencyError: Its runtime is not installed.
        UnavailableError: This machine or this bundle does not have it.
        BackendError: The runtime refuses the file, or computes in another type than asked for.
        ModelError: The file does not fit the contract.
        BundleError: The file is not the one that the manifest names.
    """
    if form.backend not in (*BACKENDS, *MEASURING):
        raise UnavailableError(f"this version has no {form.backend} backend")
    format, precision = form.artefact
    if form != NULL and bundle.find(format, precision) is None:
        raise UnavailableError(
            f"the bundle has no {precision} {format} file; make one with: fer-deploy export --precision {precision}"
        )
    kind = backend_class(form.backend)
    if device != AUTO and device not in kind.devices:
        raise UnavailableError(f"the {kind.name} backend has no device {device}; it has: {', '.join(kind.devices)}")
    backend = kind(bundle, form.precision, kind.devices[0] if device == AUTO else device, threads, **options)
    if settings is None and form != NULL:
        settings = settle(bundle, BackendChoice(form.backend, form.precision, backend.device), threads)
    backend.settings = settings or backend.settings
    return backend.open()


def open_or_simulate(bundle: Bundle, form: Form, device: str = AUTO, threads: int | None = None) -> tuple[Backend, str]:
    """Opens a form, or the simulation of ``TRT_INT8`` where TensorRT cannot run; raises what ``open_form`` raises.

    Returns:
        The open backend, and why it is a simulation; empty where it is none.
    """
    try:
        return open_form(bundle, form, device, threads), ""
    except (MissingDependencyError, UnavailableError) as error:
        if form != TRT_INT8:
            raise
        try:
            return open_form(bundle, SIMULATION, AUTO, threads), str(error)
        except (MissingDependencyError, UnavailableError):
            raise error from None


def check_runs(bundle: Bundle, selection: Selection, device: str = AUTO, threads: int | None = None) -> None:
    """Makes sure, before anything is measured, that each backend that the user named runs at least one form here.

    Raises:
        MissingDependencyError: A named backend's runtime is not installed.
        UnavailableError: This machine or this bundle does not have what it needs.
        BundleError: A file is not the one that the manifest names.
    """
    for name in sorted(selection.named):
        reasons = []
        for form in (form for form in selection.forms if form.backend == name):
            try:
                with open_form(bundle, form, device, threads):
                    break
            except (MissingDependencyError, UnavailableError) as error:
                reasons.append(error)
            except (BackendError, ModelError):  # it runs; what is wrong with the file becomes a row
                break
        else:
            raise reasons[0]


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    return [] if ALL in words else words


def _names(form: Form) -> set[str]:
    """What the form's precision may be called: TensorRT has one int8 only."""
    return {form.precision, "int8"} if form == TRT_INT8 else {form.precision}


def _form(word: str, known: Iterable[Form]) -> Form:
    backend, _, precision = word.partition("/")
    for form in known:
        if form.backend == backend and precision in _names(form):
            return form
    raise UsageError(f"There is no form {word!r} to require; there are: {', '.join(map(str, known))}")


def _check(name: str, what: str, known: Iterable[str]) -> None:
    names = list(dict.fromkeys(known))
    if name not in names:
        raise UsageError(f"There is no {what} {name!r}; there are: {', '.join(names)}")
