"""Smooths a track's probabilities over time, so that one odd picture does not change what is said."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import UsageError

DEFAULT_S: Final = 1.0


class Smoothing:
    """An exponential moving average for each track: what is older by ``seconds`` counts e times less.

    The first picture of a track counts as it is. With ``s`` the last value, ``p`` the new one and ``dt`` the time
    between them, the next value is ``s + (1 - exp(-dt / seconds)) * (p - s)``; sums stay 1.

    Args:
        seconds: The time constant; 0 leaves all as it is.

    Raises:
        UsageError: It is negative or no number.
    """

    def __init__(self, seconds: float = DEFAULT_S) -> None:
        if not 0 <= seconds < math.inf:
            raise UsageError(f"--smooth {seconds} is no time: give seconds, 0 for no smoothing")
        self._seconds = seconds
        self._last: dict[int, tuple[float, NDArray[np.float64]]] = {}

    def add(self, track: int, time_s: float, probabilities: tuple[float, ...]) -> tuple[float, ...]:
        """Takes a track's next probabilities; gives the smoothed ones."""
        new = np.array(probabilities)
        if self._seconds and track in self._last:
            before_s, before = self._last[track]
            new = before - math.expm1(-(time_s - before_s) / self._seconds) * (new - before)
        if self._seconds:
            self._last[track] = (time_s, new)
        return tuple(new.tolist())

    def keep(self, alive: Set[int]) -> None:
        """Forgets all other tracks, so that memory does not grow with a video's length."""
        for track in self._last.keys() - alive:
            del self._last[track]
