"""How many of a video's pictures are looked at: ``--every 0.5s``, ``--every 10f``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Self

from fer_deploy.errors import UsageError

DEFAULT: Final = "0.5s"
_FORM: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(s)|(\d+)f?").fullmatch


@dataclass(frozen=True, slots=True)
class Every:
    """A distance between the pictures that are looked at: one of the two is given, and larger than 0.

    Args:
        seconds: Of the video's time; of each such stretch the first picture is taken.
        frames: Every so many pictures; 1 for all of them.
    """

    seconds: Fraction | None = None
    frames: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``0.5s`` as seconds, ``10f`` or ``10`` as pictures.

        Raises:
            UsageError: It is neither.
        """
        found = _FORM(text.strip())
        if found and found[2] and (seconds := Fraction(found[1])) > 0:
            return cls(seconds=seconds)
        if found and found[3] and int(found[3]) > 0:
            return cls(frames=int(found[3]))
        raise UsageError(f"--every {text!r} is no distance: give seconds (0.5s) or pictures (10f), more than 0")

    def stretch(self, number: int, time_s: Fraction) -> int:
        """Tells in which stretch of the video a picture lies; the first of each stretch is taken.

        Args:
            number: The picture's number, from 0.
            time_s: Its time since the start, exact, so that none is missed by rounding.
        """
        return number // self.frames if self.frames else int(time_s // (self.seconds or 1))
