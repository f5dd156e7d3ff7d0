"""How a network is best shown a picture: what differs between networks in the two looks of ``search``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Sight:
    """Settings of the two looks; ``benchmarks/faces.py`` measures them, and they were chosen by it on PublicTest.

    Args:
        first_face: Pixels that the smallest face keeps in the first look.
        first_floor: The least score of a place that is looked at again.
        tile: Side in pixels of what the second look sees of a place, a multiple of 32.
        tile_face: Pixels of the face in it: those at which the network is surest.
        threshold: The least score of a face, in either look.
    """

    first_face: int
    first_floor: float
    tile: int
    tile_face: int
    threshold: float


CENTERFACE: Final = Sight(first_face=12, first_floor=0.03, tile=128, tile_face=80, threshold=0.14)
YUNET: Final = Sight(first_face=20, first_floor=0.1, tile=192, tile_face=128, threshold=0.5)
