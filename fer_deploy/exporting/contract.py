"""What a network that others trained takes and gives, as its user states it in options or in a TOML file.

Nothing of it can be seen in the weights (a network trained on -1..1 answers on 0..255 too, only wrongly), so the two
that no shape tells, ``scale`` and ``classes``, have no default.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fer_deploy.errors import UsageError
from fer_deploy.labels import IMAGE_SIZE, LABELS
from fer_deploy.system.toml import read_toml

IGNORED: Final = "-"
"""In ``classes``: an output that is none of FER-2013's seven; it is left out, and the rest brought to a sum of 1."""

SYNONYMS: Final = {
    "anger": "angry",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "scared": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}
"""Other names of the seven classes that data sets and networks use."""

MAX_SIZE: Final = 1024
MAX_CLASSES: Final = 100
NEEDED: Final = ("scale", "classes")


@dataclass(frozen=True)
class ModelContract:
    """How a foreign network is to be fed and read.

    A gray picture of 48x48 is resized (bilinear, pixel centres at halves, as OpenCV and ``tf.image.resize`` do),
    rounded where asked, scaled, repeated over the channels, and normalised by mean and standard deviation.

    Args:
        scale: What pixel values 0 and 255 become: (-1, 1), (0, 1), (0, 255) ...
        classes: Of the network's outputs, in their order: each of FER-2013's seven once, and ``"-"`` for others.
        input_size: Height and width that the network takes, in pixels.
        channels: 1, or 3 where the gray picture is repeated.
        mean: Subtracted after scaling, one value or one per channel; empty for 0.
        std: Divided by after that, one value or one per channel; empty for 1.
        round_pixels: Whether resized pixels are rounded to whole numbers, as OpenCV and Pillow leave them.
        logits: Whether the outputs still need a softmax.
    """

    scale: tuple[float, ...]
    classes: tuple[str, ...]
    input_size: tuple[int, ...] = (IMAGE_SIZE, IMAGE_SIZE)
    channels: int = 1
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    round_pixels: bool = False
    logits: bool = False

    def __post_init__(self) -> None:
        if len(self.scale) != 2 or not all(map(math.isfinite, self.scale)) or self.scale[0] == self.scale[1]:
            raise ValueError(f"scale is {_list(self.scale)}, expected two different numbers: what 0 and 255 become")
        if len(self.input_size) != 2 or not all(1 <= side <= MAX_SIZE for side in self.input_size):
            raise ValueError(f"input_size is {_list(self.input_size)}, expected height and width, 1 to {MAX_SIZE}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels}, expected 1 (gray) or 3 (the gray picture repeated)")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (0, 1, self.channels) or not all(map(math.isfinite, values)):
                raise ValueError(f"{name} is {_list(values)}, expected one number or one per channel")
        if not all(value > 0 for value in self.std):
            raise ValueError(f"std is {_list(self.std)}, expected numbers above 0")
        object.__setattr__(self, "classes", tuple(map(_class_name, self.classes)))
        self._check_classes()

    def _check_classes(self) -> None:
        missing = [name for name in LABELS if name not in self.classes]
        twice = sorted({name for name in self.classes if name != IGNORED and self.classes.count(name) > 1})
        if missing or twice or len(self.classes) > MAX_CLASSES:
            wrong = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(twice) or 'too many'} more than once"
            raise ValueError(
                f"classes {wrong}: expected the network's outputs in their order, with each of {', '.join(LABELS)} "
                f"once and {IGNORED!r} for an output that is to be left out"
            )

    @property
    def order(self) -> tuple[int, ...]:
        """For each class in FER-2013's order, which output of the network it is."""
        return tuple(self.classes.index(name) for name in LABELS)


def model_contract(file: Path | None = None, **options: Any) -> ModelContract | None:
    """Puts a contract together from a TOML file and from options, which come first.

    Args:
        file: A TOML file with keys of ``ForeignContract``; ``input_size`` may also be written as "64x64".
        **options: Values of the same keys; None for one that was not given. ``input_size``, ``scale`` and ``classes``
            may be text, as on the command line: "64x64", "-1,1", "angry,disgust,...".

    Returns:
        The contract, or None where there is neither file nor option: the network then is of our own contract.

    Raises:
        UsageError: The file is unreadable; a key is unknown; a value is missing or makes no sense.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if file is None and not given:
        return None
    values = {**(read_toml(file, "The network's description", UsageError) if file is not None else {}), **given}
    where = f"{file}: " if file is not None else ""
    missing = [key for key in NEEDED if key not in values]
    if missing:
        raise UsageError(
            f"{where}A network that others trained needs {' and '.join(missing)} too: pass "
            "--scale LOW,HIGH (what pixel values 0 and 255 become before its first layer) and --classes NAME,... "
            "(the names of its outputs, in their order)"
        )
    try:
        return ModelContract(**{key: _value(key, value) for key, value in values.items()})
    except ValueError as error:
        raise UsageError(f"{where}{error}") from error


def _value(key: str, value: Any) -> Any:
    """Brings one value into the type of its field; raises ValueError where it has another."""
    if key == "input_size":
        return _numbers(key, value.lower().split("x") if isinstance(value, str) else value, int)
    if key == "classes":
        names = value.split(",") if isinstance(value, str) else value
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"classes is {value!r:.200}, expected a list of names")
        return tuple(names)
    if key in ("scale", "mean", "std"):
        if isinstance(value, int | float):
            value = [value]
        return _numbers(key, value.split(",") if isinstance(value, str) else value, float)
    kinds = {"channels": int, "round_pixels": bool, "logits": bool}
    if key not in kinds:
        known = ", ".join(ModelContract.__dataclass_fields__)
        raise ValueError(f"{key!r} is unknown; known are {known}")
    if type(value) is not kinds[key]:
        raise ValueError(f"{key} is {value!r:.80}, expected a {kinds[key].__name__}")
    return value


def _numbers(key: str, values: Any, kind: type) -> tuple[Any, ...]:
    """Reads a list of numbers, or of texts that are numbers."""
    try:
        if isinstance(values, list | tuple) and not any(isinstance(value, bool) for value in values):
            numbers = tuple(kind(value) for value in values)
            if all(isinstance(old, str) or new == old for old, new in zip(values, numbers, strict=True)):
                return numbers
    except (TypeError, ValueError, OverflowError):
        pass
    examples = {"input_size": "64x64", "scale": "-1,1"}
    raise ValueError(f"{key} is {_list(values)!r:.80}, expected numbers such as {examples.get(key, '0.5')}")


def _class_name(name: str) -> str:
    plain = name.strip().lower()
    plain = SYNONYMS.get(plain, plain)
    if plain not in (*LABELS, IGNORED):
        raise ValueError(
            f"classes has {name.strip()!r:.40}, which is none of FER-2013's seven ({', '.join(LABELS)}): write "
            f"{IGNORED!r} in its place, and that output is left out"
        )
    return plain


def _list(values: Any) -> str:
    return ",".join(map(str, values)) if isinstance(values, list | tuple) else str(values)
