"""Joins the faces of a video's pictures into tracks: who is where in the next picture, by overlap alone.

Each track says where its face should be by now, from where it was and how it moved (that two faces cross is what this
is for). Pairs of such places and of found faces are joined, those that overlap most (IoU) first, both boxes taken twice
as large, so that a small face may move by its own width between two pictures. Nobody is recognised:
a face that was away for longer begins a new track, and two that cover each other while they turn back may be mixed up.

Smooths a track's probabilities over time, so that one odd picture does not change what is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import UsageError
from fer_deploy.faces.face import Floats, shared

LEAST_OVERLAP: Final = 0.2
GROWN: Final = 2.0
KEPT_S: Final = 1.0
"""A track ends when its face was not found for longer than this, and in more than ``KEPT_PICTURES`` pictures."""
KEPT_IMAGES: Final = 2
DEFAULT_S: Final = 1.0


@dataclass(slots=True)
class _Track:
    number: int
    box: Floats  # (4,): left edge, upper edge, width, height
    time_s: float
    speed: Floats  # (2,), pixels per second
    has_moved: bool = False
    missed: int = 0

    def at(self, time_s: float) -> Floats:
        """Gives the box where it should be then, moved by no more than its own size."""
        box = self.box.copy()
        box[:2] += np.clip(self.speed * np.float32(time_s - self.time_s), -box[2:], box[2:])
        return box

    def seen(self, time_s: float, box: Floats) -> None:
        """Takes the place where it was found."""
        passed = time_s - self.time_s
        if passed > 0:
            middles = box[:2] + box[2:] / 2 - self.box[:2] - self.box[2:] / 2
            speed: Floats = (middles / passed).astype(np.float32)
            self.speed = (self.speed + speed) / np.float32(2) if self.has_moved else speed
            self.has_moved = True
        self.box, self.time_s, self.missed = box, time_s, 0


class Tracks:
    """The faces that are followed."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self.started = 0

    @property
    def alive(self) -> set[int]:
        """The numbers of the tracks that may go on."""
        return {track.number for track in self._tracks}

    def follow(self, time_s: float, boxes: Sequence[Sequence[float]]) -> list[int]:
        """Takes the faces of the next picture.

        Args:
            time_s: Its time, not before that of the last one.
            boxes: Left edge, upper edge, width and height of each.

        Returns:
            The track of each, from 0 in the order in which they begin.
        """
        places = np.array(boxes, np.float32).reshape(-1, 4)
        given = self._joined(time_s, places)
        for track in self._tracks:
            track.missed += 1
        for index, place in enumerate(places):
            if index not in given:
                given[index] = _Track(self.started, place, time_s, np.zeros(2, np.float32))
                self._tracks.append(given[index])
                self.started += 1
            given[index].seen(time_s, place)
        self._tracks = [
            track for track in self._tracks if track.missed <= KEPT_IMAGES or time_s - track.time_s <= KEPT_S
        ]
        return [given[index].number for index in range(len(places))]

    def _joined(self, time_s: float, places: Floats) -> dict[int, _Track]:
        pairs = [
            (float(overlap), track, index)
            for track in self._tracks
            for index, overlap in enumerate(shared(_grown(track.at(time_s)), _grown(places))[0])
            if overlap >= LEAST_OVERLAP
        ]
        given: dict[int, _Track] = {}
        taken: set[int] = set()
        for _, track, index in sorted(pairs, key=lambda pair: (-pair[0], pair[1].number, pair[2])):
            if index not in given and track.number not in taken:
                given[index] = track
                taken.add(track.number)
        return given


def _grown(boxes: Floats) -> Floats:
    """Makes boxes larger around their middles."""
    grown = boxes.copy()
    grown[..., :2] -= boxes[..., 2:] * np.float32((GROWN - 1) / 2)
    grown[..., 2:] *= np.float32(GROWN)
    return grown


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
