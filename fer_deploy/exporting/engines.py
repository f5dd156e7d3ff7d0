"""Engines built ahead: for GPUs that need not be here, with TensorRT for RTX, or for the one that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from fer_deploy.backends.tensorrt.builder import BuildOptions, Report, build_engine, check_readable, summary
from fer_deploy.backends.tensorrt.cuda import Cuda
from fer_deploy.backends.tensorrt.engine_cache import engine_facts
from fer_deploy.backends.tensorrt.flavour import Flavour, import_flavour
from fer_deploy.bundle.manifest import Artefact, Bundle, describe_file
from fer_deploy.errors import (
    BackendError,
    MissingDependencyError,
    ModelError,
    OutputError,
    UnavailableError,
    UsageError,
)
from fer_deploy.labels import INPUT_SHAPE

FOLDER: Final = "engines"
ENGINE_PRECISIONS: Final = ("fp32", "fp16", "int8-trt")


def build_engines(
    bundle: Bundle,
    precisions: Iterable[str],
    targets: Iterable[str] = (),
    *,
    options: BuildOptions | None = None,
    report: Report = lambda line: None,
) -> tuple[Artefact, ...]:
    """Builds engines of a bundle's ONNX files into its folder.

    Args:
        bundle: Its ``path`` may still be a folder in the making; the manifest is not read and not written.
        precisions: ``fp32``, ``fp16``, ``int8-trt``; others and those that the bundle has no ONNX file of are left out.
        targets: GPUs by compute capability (``sm86``, ...); none for the GPU that is here.
        options: Batch sizes and compatibility.
        report: Called with a line as the build goes on.

    Returns:
        The engines' manifest entries. ``made_with`` has what an engine must match to be run (``engine_facts``), the
        builder's own count of what the convolutions read and write, and the seconds that it took.

    Raises:
        MissingDependencyError: No TensorRT is installed.
        UnavailableError: There is no GPU and no target, or this TensorRT cannot build for a target.
        BackendError: TensorRT refuses a model, or builds it in another type.
        OutputError: An engine cannot be written.
    """
    chosen, options = tuple(targets), options or BuildOptions()
    flavour = import_flavour(for_target=chosen[0] if chosen else "")
    here = "" if flavour.is_rtx and chosen else Cuda().gpu().target
    return tuple(
        _build(bundle, precision, flavour, target, "" if target == here else target, options, report)
        for precision in precisions
        if precision in ENGINE_PRECISIONS and bundle.find("onnx", precision)
        for target in chosen or (here,)
    )


def engine_step(targets: Sequence[str] = ()) -> Callable[[Bundle, Report], tuple[Artefact, ...]]:
    """Returns the step that adds engines to an export, after checking that it can be done.

    Args:
        targets: As of ``build_engines``.

    Raises:
        MissingDependencyError: No TensorRT is installed.
        UnavailableError: There is no GPU and no target, or this TensorRT cannot build for a target.
    """
    flavour = import_flavour(for_target=targets[0] if targets else "")
    here = "" if flavour.is_rtx and targets else Cuda().gpu().target
    for target in targets:
        if target != here:
            flavour.check_target(target)
    chosen = tuple(targets)
    return lambda bundle, report: build_engines(bundle, ENGINE_PRECISIONS, chosen, report=report)


def check_with_tensorrt(bundle: Bundle) -> str | None:
    """Has the TensorRT that is installed read the file that only it is for: a simulation knows nothing of its parser.

    Returns:
        Its name and version; None where there is no such file, no TensorRT, or one that cannot start without a GPU.

    Raises:
        ModelError: It refuses a file.
    """
    if not bundle.find("onnx", "int8-trt"):
        return None
    try:
        flavour = import_flavour()
        check_readable(flavour, bundle.read("onnx", "int8-trt"), "int8-trt")
    except (MissingDependencyError, UnavailableError):
        return None
    except BackendError as error:
        raise ModelError(f"The exported int8-trt file is not for TensorRT: {error}") from error
    return f"{flavour.name} {flavour.version}"


def trtexec_lines(artefact: Artefact, options: BuildOptions | None = None) -> dict[str, str]:
    """The commands that build the same engine elsewhere, by runtime, to be run in the bundle's folder.

    Args:
        artefact: An ONNX file of the bundle.
        options: Batch sizes.

    Raises:
        UsageError: The artefact is no ONNX file, or one that TensorRT does not take.
    """
    if artefact.format != "onnx" or artefact.precision not in ENGINE_PRECISIONS:
        raise UsageError(
            f"{artefact.file} ({artefact.format} {artefact.precision}) is no file for TensorRT to build from"
        )
    options = options or BuildOptions()
    batches = {"min": 1, "opt": options.opt_batch, "max": options.max_batch}
    size = "x".join(map(str, INPUT_SHAPE))
    profile = " ".join(f"--{kind}Shapes=image:{n}x{size}" for kind, n in batches.items())
    exact = " --noTF32" if artefact.precision == "fp32" else ""
    common = f"--onnx={artefact.file} {profile} --skipInference --saveEngine=model.{artefact.precision}.engine"
    return {"TensorRT": f"trtexec --stronglyTyped{exact} {common}", "TensorRT for RTX": f"tensorrt_rtx {common}"}


def parse_targets(text: str) -> tuple[str, ...]:
    """Splits ``sm86,sm89``.

    Raises:
        UsageError: A part is not of that form.
    """
    parts = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    for part in parts:
        if not (part.startswith("sm") and part[2:].isdigit() and 2 <= len(part[2:]) <= 3):
            raise UsageError(f"{part!r} is no GPU to build for; give compute capabilities like sm86,sm89")
    return tuple(dict.fromkeys(parts))


def _build(
    bundle: Bundle,
    precision: str,
    flavour: Flavour,
    target: str,
    asked: str,
    options: BuildOptions,
    report: Report,
) -> Artefact:
    """Builds for a target; ``asked`` is empty where that is the GPU that is here."""
    model = bundle.read("onnx", precision)
    built = build_engine(flavour, model, precision, target=asked, options=options, report=report)
    file = f"{FOLDER}/model.{precision}.{target}.engine"
    try:
        (bundle.path / FOLDER).mkdir(exist_ok=True)
        (bundle.path / file).write_bytes(built.content)
    except OSError as error:
        raise OutputError(f"{bundle.path / file} cannot be written: {error.strerror}") from error
    facts: dict[str, Any] = {**engine_facts(flavour, model, options), "seconds": round(built.seconds, 2)}
    if built.layers:
        facts["built"] = summary(built.layers)
    return describe_file(bundle.path, file, "engine", precision, facts, target)
