"""Which forms of a model are verified or measured: a backend and a precision each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from fer_deploy.backends.base import Backend, BackendSettings
from fer_deploy.backends.registry import BACKENDS, MEASURING, backend_class
from fer_deploy.backends.select import BackendChoice, tuned_settings
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import BackendError, MissingDependencyError, ModelError, UnavailableError, UsageError

ALL: Final = "all"
AUTO: Final = "auto"


class ModelVariant(NamedTuple):
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


KERAS: Final = ModelVariant("keras", "fp32")
NULL: Final = ModelVariant("null", "fp32")
"""Computes nothing and takes no file: what is left is the cost of measuring."""
TRT_INT8: Final = ModelVariant("trt", "int8-trt")
SIMULATION: Final = ModelVariant("onnx", "int8-trt")
"""Stands in for ``TRT_INT8`` where TensorRT cannot run, and is no form of its own."""


@dataclass(frozen=True)
class Selection:
    """What one verification or measurement looks at.

    Args:
        variants: In the order of tables.
        named: Backends that the user named, so that one of them not running is an error.
        required: Forms that must really run and pass.
    """

    variants: tuple[ModelVariant, ...]
    named: frozenset[str] = frozenset()
    required: frozenset[ModelVariant] = frozenset()


def all_variants() -> tuple[ModelVariant, ...]:
    """Every form that there is, of all backends, in the order of tables."""
    variants = [ModelVariant(name, precision) for name in BACKENDS for precision in backend_class(name).precisions]
    if TRT_INT8 not in variants:
        variants.append(TRT_INT8)
    return tuple(variant for variant in variants if variant != SIMULATION)


def select(
    backends: str = ALL, precisions: str = ALL, require: str = "", extra: tuple[ModelVariant, ...] = ()
) -> Selection:
    """Makes a selection of what a user wrote.

    Args:
        backends: ``all``, or names with commas between.
        precisions: ``all``, or names with commas between; ``int8`` takes in TensorRT's ``int8-trt``.
        require: Forms as ``backend/precision`` with commas between; looked at even where the others leave them out.
        extra: Forms that there are beside those of ``all_forms``.

    Raises:
        UsageError: There is no such backend, precision or form.
    """
    known = (*all_variants(), *extra)
    named = _words(backends)
    wanted = _words(precisions)
    required = frozenset(_variant(word, known) for word in _words(require))
    for name in named:
        _check(name, "backend", (variant.backend for variant in known))
    for name in wanted:
        _check(name, "precision", (variant.precision for variant in known))
    variants = tuple(
        variant
        for variant in known
        if variant in required
        or ((not named or variant.backend in named) and (not wanted or _names(variant) & set(wanted)))
    )
    if not variants:
        raise UsageError(f"No form is left: {backends} has no precision {precisions}")
    return Selection(variants, frozenset(named), required)


def open_variant(
    bundle: Bundle,
    variant: ModelVariant,
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
    if variant.backend not in (*BACKENDS, *MEASURING):
        raise UnavailableError(f"this version has no {variant.backend} backend")
    format, precision = variant.artefact
    if variant != NULL and bundle.find(format, precision) is None:
        raise UnavailableError(
            f"the bundle has no {precision} {format} file; make one with: fer-deploy export --precision {precision}"
        )
    kind = backend_class(variant.backend)
    if device != AUTO and device not in kind.devices:
        raise UnavailableError(f"the {kind.name} backend has no device {device}; it has: {', '.join(kind.devices)}")
    backend = kind(bundle, variant.precision, kind.devices[0] if device == AUTO else device, threads, **options)
    if settings is None and variant != NULL:
        settings = tuned_settings(bundle, BackendChoice(variant.backend, variant.precision, backend.device), threads)
    backend.settings = settings or backend.settings
    return backend.open()


def open_or_simulate(
    bundle: Bundle, variant: ModelVariant, device: str = AUTO, threads: int | None = None
) -> tuple[Backend, str]:
    """Opens a form, or the simulation of ``TRT_INT8`` where TensorRT cannot run; raises what ``open_form`` raises.

    Returns:
        The open backend, and why it is a simulation; empty where it is none.
    """
    try:
        return open_variant(bundle, variant, device, threads), ""
    except (MissingDependencyError, UnavailableError) as error:
        if variant != TRT_INT8:
            raise
        try:
            return open_variant(bundle, SIMULATION, AUTO, threads), str(error)
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
        for variant in (variant for variant in selection.variants if variant.backend == name):
            try:
                with open_variant(bundle, variant, device, threads):
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


def _names(variant: ModelVariant) -> set[str]:
    """What the form's precision may be called: TensorRT has one int8 only."""
    return {variant.precision, "int8"} if variant == TRT_INT8 else {variant.precision}


def _variant(word: str, known: Iterable[ModelVariant]) -> ModelVariant:
    backend, _, precision = word.partition("/")
    for variant in known:
        if variant.backend == backend and precision in _names(variant):
            return variant
    raise UsageError(f"There is no form {word!r} to require; there are: {', '.join(map(str, known))}")


def _check(name: str, what: str, known: Iterable[str]) -> None:
    names = list(dict.fromkeys(known))
    if name not in names:
        raise UsageError(f"There is no {what} {name!r}; there are: {', '.join(names)}")
