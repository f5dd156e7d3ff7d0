"""ONNX in, engine out.

The builder's own listing of what it built: which layer reads and writes which type.

An engine file that exists proves nothing about its precision; this does. TensorRT for RTX prints the listing while it
builds (verbose, with detailed profiling); TensorRT itself only tells from a loaded engine, on a GPU.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from fer_deploy.backends.tensorrt.flavour import ERRORS, Flavour
from fer_deploy.errors import BackendError, UnavailableError, one_line
from fer_deploy.labels import INPUT_SHAPE
from fer_deploy.system.files import load_blob, store_blob

Report = Callable[[str], None]
WORKSPACE: Final = 1 << 30
"""Bytes of GPU memory that a layer may use for itself; this network needs a few MB, an unbounded one all there is."""
_LAYER: Final = re.compile(
    r"^Name: (?P<name>[^,]*), LayerType: (?P<kind>\w+), Inputs: \[(?P<reads>.*)\], Constants: \[(?P<constants>.*)\], "
    r"Outputs: \[(?P<writes>.*)\], TacticName:"
)
_TYPE: Final = re.compile(r"Datatype: (\w+)")
_SHAPE: Final = re.compile(r"Dimensions: \[([^\]]*)\]")
_CONVOLUTIONS: Final = ("correlation", "convolution")
_EXPECTED: Final = {"fp32": "Float", "fp16": "Half", "int8-trt": "Int8"}
"""What the convolutions of an artefact must read, in TensorRT's words."""


@dataclass(frozen=True)
class BuildOptions:
    """What an engine is built for besides the GPU; all of it is part of the engine's identity.

    Args:
        opt_batch: The batch size that kernels are chosen for.
        max_batch: The largest batch; the smallest is 1.
        workspace: Bytes, see ``WORKSPACE``.
        version_compatible: Whether later TensorRTs of the same major version may run it (slower; needs the lean
            runtime's library; TensorRT only).
        hardware_compatible: Whether any GPU from Ampere on may run it (slower; TensorRT only).
    """

    opt_batch: int = 64
    max_batch: int = 256
    workspace: int = WORKSPACE
    version_compatible: bool = False
    hardware_compatible: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.opt_batch <= self.max_batch:
            raise ValueError(f"a profile needs 1 <= opt <= max; got opt {self.opt_batch}, max {self.max_batch}")

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The smallest, the usual and the largest input shape."""
        return tuple((n, *INPUT_SHAPE) for n in (1, self.opt_batch, self.max_batch))

    def as_json(self) -> dict[str, Any]:
        """For the manifest and the cache's key."""
        return asdict(self)


@dataclass(frozen=True)
class BuiltEngine:
    """A built engine.

    Args:
        content: The serialised engine.
        layers: What the builder printed of it; empty where it prints nothing.
        seconds: Time that it took.
    """

    content: bytes = field(repr=False)
    layers: tuple[Layer, ...]
    seconds: float


def build_engine(
    flavour: Flavour,
    model: bytes,
    precision: str,
    *,
    target: str = "",
    options: BuildOptions | None = None,
    timings: Path | None = None,
    report: Report = lambda line: None,
) -> BuiltEngine:
    """Builds an engine.

    Args:
        flavour: The TensorRT to build with.
        model: The ONNX file's content; it alone says what is computed in which type.
        precision: What the file is: ``fp32``, ``fp16`` or ``int8-trt``; the built convolutions are held to it.
        target: The GPU to build for, as ``sm86``; empty for the one that is here.
        options: Profile and compatibility.
        timings: A file that keeps measured kernels from build to build, where the flavour measures any.
        report: Called with a line as the build goes on.

    Raises:
        UnavailableError: This TensorRT cannot build for that target here.
        BackendError: TensorRT refuses the model, or builds it in another type than asked for.
    """
    options = options or BuildOptions()
    label = f"Building the {precision} engine for {target or 'this GPU'} with {flavour.name} {flavour.version}"
    started = time.perf_counter()
    report(label)
    messages: list[tuple[str, str]] = []
    builder, network, _parser = _parse(flavour, model, precision, messages)
    config = _configure(flavour, builder, network.get_input(0).name, precision, options, target)
    root: list[str] = []

    def started_phase(phase: str, parent: str | None) -> None:
        if parent is None:
            root.append(phase)
        elif parent in root:
            report(f"{label}: {phase[:1].lower()}{phase[1:]}")

    config.progress_monitor = monitor = flavour.make_monitor(started_phase)  # kept alive by the name
    _use_timings(flavour, config, timings)
    engine = builder.build_serialized_network(network, config)
    del monitor
    if engine is None:
        raise BackendError(
            f"{flavour.name} cannot build the {precision} engine: {_reason(messages) or 'no reason given'}"
        )
    if timings is not None and flavour.keeps_timings:
        with suppress(OSError):
            store_blob(timings, bytes(config.get_timing_cache().serialize()))
    layers = parse_layers(text for _, text in messages)
    wrong = wrong_convolutions(layers, precision)
    if wrong:
        raise BackendError(
            f"{flavour.name} built {len(wrong)} convolutions of the {precision} model in another type ({wrong[0]}, ...)"
        )
    return BuiltEngine(bytes(engine), layers, time.perf_counter() - started)


def check_readable(flavour: Flavour, model: bytes, precision: str) -> None:
    """Has TensorRT's parser read a model, without building anything; the arguments are those of ``build_engine``.

    Raises:
        UnavailableError: This TensorRT cannot start here.
        BackendError: TensorRT refuses the model.
    """
    _parse(flavour, model, precision, [])


def _parse(flavour: Flavour, model: bytes, precision: str, messages: list[tuple[str, str]]) -> tuple[Any, Any, Any]:
    """Returns a builder, the network that it read, and the parser, which must live as long as the network does."""
    trt, logger = flavour.trt, flavour.make_logger(lambda severity, text: messages.append((severity, text)))
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # what pybind11 makes of a builder that could not start
        raise UnavailableError(f"{flavour.name} cannot build here: {_reason(messages)}") from error
    network = builder.create_network(flavour.network_flags())
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        found = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise BackendError(
            f"{flavour.name} cannot read the {precision} model: {one_line(' '.join(found)) or _reason(messages)}"
        )
    return builder, network, (parser, logger)


def _configure(flavour: Flavour, builder: Any, name: str, precision: str, options: BuildOptions, target: str) -> Any:
    trt, config = flavour.trt, builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape(name, *options.shapes())
    config.add_optimization_profile(profile)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if precision == "fp32":  # else products are rounded to ten bits, and fp32 is not what it says
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    flavour.set_target(config, target)
    return config


def _use_timings(flavour: Flavour, config: Any, timings: Path | None) -> None:
    if timings is None or not flavour.keeps_timings:
        return
    config.set_timing_cache(config.create_timing_cache(load_blob(timings) or b""), False)


def _reason(messages: list[tuple[str, str]]) -> str:
    return one_line(" ".join(text for severity, text in messages if severity in ERRORS)) or "no reason given"


@dataclass(frozen=True)
class Layer:
    """One layer of an engine; types are TensorRT's words (``Float``, ``Half``, ``Int8``, ...).

    Args:
        name: TensorRT's name for it.
        kind: ``correlation`` is a convolution, ``kgen`` a kernel generated for point-wise steps, ...
        reads: Types of its inputs.
        constants: Types of its weights and scales.
        writes: Types of its outputs.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    constants: tuple[str, ...]
    writes: tuple[str, ...]

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution."""
        return self.kind in _CONVOLUTIONS


def parse_layers(lines: Iterable[str]) -> tuple[Layer, ...]:
    """Finds the layers in the builder's messages; none where it printed no listing that we know."""
    found = (_LAYER.match(line) for text in lines for line in text.splitlines())
    return tuple(
        Layer(hit["name"], hit["kind"], *(tuple(_TYPE.findall(hit[part])) for part in ("reads", "constants", "writes")))
        for hit in found
        if hit
    )


def summary(layers: Iterable[Layer]) -> dict[str, Any]:
    """Counts for the manifest: layers, convolutions, and how many of those read and write which type."""
    known = tuple(layers)
    convolutions = [layer for layer in known if layer.is_convolution]
    types = [f"{'+'.join(layer.reads)} -> {'+'.join(layer.writes)}" for layer in convolutions]
    return {
        "layers": len(known),
        "convolutions": {kind: types.count(kind) for kind in sorted(set(types))},
        "generated_kernels": sum(layer.kind == "kgen" for layer in known),
    }


def wrong_convolutions(layers: Iterable[Layer], precision: str) -> list[str]:
    """Names the convolutions that do not read what an artefact of that precision must give them."""
    wanted = _EXPECTED[precision]
    return [layer.name for layer in layers if layer.is_convolution and layer.reads[:1] != (wanted,)]
