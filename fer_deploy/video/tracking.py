"""Joins the faces of a video's pictures into tracks: who is where in the next picture, by overlap alone.

Each track says where its face should be by now, from where it was and how it moved (that two faces cross is what this
is for). Pairs of such places and of found faces are joined, those that overlap most (IoU) first, both boxes taken twice
as large, so that a small face may move by its own width between two pictures. Nobody is recognised:
a face that was away for longer begins a new track, and two that cover each other while they turn back may be mixed up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fer_deploy.faces.face import Floats, shared

LEAST_OVERLAP: Final = 0.2
GROWN: Final = 2.0
KEPT_S: Final = 1.0
"""A track ends when its face was not found for longer than this, and in more than ``KEPT_PICTURES`` pictures."""
KEPT_PICTURES: Final = 2


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
        self.begun = 0

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
                given[index] = _Track(self.begun, place, time_s, np.zeros(2, np.float32))
                self._tracks.append(given[index])
                self.begun += 1
            given[index].seen(time_s, place)
        self._tracks = [
            track for track in self._tracks if track.missed <= KEPT_PICTURES or time_s - track.time_s <= KEPT_S
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
