"""Recipes of an export: everything that decides what its files compute, as frozen dataclasses that TOML overrides."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fer_deploy.errors import UsageError
from fer_deploy.exporting.int8.observe import METHODS
from fer_deploy.exporting.int8.weights import ROUNDINGS
from fer_deploy.system.toml import build, read_toml, take_table

MAX_COUNT: Final = 28_709


@dataclass(frozen=True)
class Quantisation:
    """How INT8 files are made; ``export/README.md`` has what each choice gains.

    Args:
        method: How activation ranges are chosen: ``min-max``, ``percentile``, ``entropy`` or ``mse``.
        percentile: Share of values that ``percentile`` keeps, in percent.
        count: Calibration pictures, drawn alike from every class.
        seed: Of the draw.
        equalise: Strength of equalisation between convolutions, 0 (none) to 1.
        rounding: Of weights: ``nearest``, or ``compensated``: what one loses the others make good.
        per_channel: Whether int8 has a scale per output channel of a convolution.
        per_channel_trt: The same for int8-trt. One scale for all lets TensorRT for RTX fuse more into the convolution,
            but only networks whose channels are much alike bear it.
        half_trt: Whether what is not int8 in int8-trt is fp16: TensorRT's convolutions then write halves, not floats.
    """

    method: str = "mse"
    percentile: float = 99.99
    count: int = 512
    seed: int = 0
    equalise: float = 0.7
    rounding: str = "compensated"
    per_channel: bool = True
    per_channel_trt: bool = True
    half_trt: bool = True

    def __post_init__(self) -> None:
        """Checks the values."""
        for name, allowed in (("method", METHODS), ("rounding", ROUNDINGS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(allowed)}")
        if not 50 <= self.percentile <= 100:
            raise ValueError(f"percentile is {self.percentile}, expected 50 to 100")
        if not 1 <= self.count <= MAX_COUNT:
            raise ValueError(f"count is {self.count}, expected 1 to {MAX_COUNT:,}")
        if not 0 <= self.equalise <= 1:
            raise ValueError(f"equalise is {self.equalise}, expected 0 to 1")


@dataclass(frozen=True)
class ExportRecipe:
    """A whole export.

    Args:
        name: What it is called in the manifest.
        target_accuracy: Top-1 accuracy in percent that ``verify`` holds the bundle to; 0 for none.
        int8: How INT8 files are made.
        fit_temperature: Whether the last layer's weights are divided by a temperature fitted on PublicTest.
    """

    name: str = "built-in"
    target_accuracy: float = 0.0
    int8: Quantisation = field(default_factory=Quantisation)
    fit_temperature: bool = False

    def __post_init__(self) -> None:
        """Checks the values."""
        if not 0 <= self.target_accuracy <= 100:
            raise ValueError(f"target_accuracy is {self.target_accuracy}, expected percent, 0 to 100")


def load_export_recipe(path: Path) -> ExportRecipe:
    """Reads a TOML file with the keys of ``ExportRecipe``, and a table ``[int8]`` with those of ``Quantisation``.

    Raises:
        UsageError: The file is unreadable, not TOML, or has an unknown key or a value that cannot be.
    """
    raw = read_toml(path, "The recipe", UsageError)
    try:
        quantisation = build(Quantisation, take_table(raw, "int8"))
        return build(ExportRecipe, {"name": path.stem, **raw}, int8=quantisation)
    except ValueError as error:
        raise UsageError(f"The recipe {path} is wrong: {error}") from error
