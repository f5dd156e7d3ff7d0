"""What a detector finds: ``Face`` for who asks, ``Candidates`` (arrays) on the way there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

OVERLAP: Final = 0.3
"""Two boxes that share more than this of their union are the same face; CenterFace's and YuNet's own setting."""


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face in a picture; all lengths in pixels of the upright picture, from its left upper corner.

    Args:
        box: Left edge, upper edge, width and height; it may reach over the picture's edge.
        score: How sure the detector is, 0..1.
        landmarks: float32 (5, 2), x and y of the eye that is left in the picture, the other eye, the tip of the nose,
            the corner of the mouth that is left in the picture, the other one; None from a detector without them.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: Floats | None = None

    def scaled(self, scale: float) -> Face:
        """Gives it in the pixels of the picture ``scale`` times as large."""
        x, y, width, height = (value * scale for value in self.box)
        marks = None if self.landmarks is None else self.landmarks * np.float32(scale)
        return Face((x, y, width, height), self.score, marks)


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Faces as arrays.

    Args:
        boxes: float32 (N, 4): left edge, upper edge, width, height.
        scores: float32 (N,), 0..1.
        landmarks: float32 (N, 5, 2); see ``Face``.
    """

    boxes: Floats
    scores: Floats
    landmarks: Floats

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, index: NDArray[np.bool] | list[int] | slice) -> Candidates:
        """Takes some of them, by a mask, by their numbers or by a slice."""
        return Candidates(self.boxes[index], self.scores[index], self.landmarks[index])

    def moved(self, scale: float, left: float = 0.0, upper: float = 0.0) -> Candidates:
        """Gives them in another picture's pixels: times ``scale``, then moved."""
        shift = np.array([left, upper], np.float32)
        boxes = self.boxes * np.float32(scale)
        boxes[:, :2] += shift
        return Candidates(boxes, self.scores, self.landmarks * np.float32(scale) + shift)

    def distinct(self, inside: float = 1.0, most: int | None = None) -> Candidates:
        """Leaves of those that overlap only the best; the best come first.

        Args:
            inside: A box of which more than this lies in a better one goes, too: half a face is like a face.
            most: No more than so many; None for all. It also bounds the time for a picture that is faces all over.
        """
        left = np.argsort(-self.scores, kind="stable")
        kept: list[int] = []
        while len(left) and (most is None or len(kept) < most):
            kept.append(int(left[0]))
            union, smaller = shared(self.boxes[left[0]], self.boxes[left[1:]])
            left = left[1:][(union <= OVERLAP) & (smaller <= inside)]
        return self.take(kept)

    def faces(self) -> list[Face]:
        """Gives them one by one."""
        rows = zip(self.boxes.tolist(), self.scores.tolist(), self.landmarks, strict=True)
        return [Face((x, y, w, h), min(score, 1.0), marks) for (x, y, w, h), score, marks in rows]

    @classmethod
    def joined(cls, parts: list[Candidates]) -> Self:
        """Puts several into one; at least one."""
        return cls(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.landmarks for part in parts]),
        )


def shared(box: Floats, boxes: Floats) -> tuple[Floats, Floats]:
    """Gives what one box shares with each of others: as a part of the two together (IoU), and of the smaller; 0..1.

    Args:
        box: float32 (4,): left edge, upper edge, width, height.
        boxes: float32 (N, 4).
    """
    first = np.maximum(box[:2], boxes[:, :2])
    last = np.minimum(box[:2] + box[2:], boxes[:, :2] + boxes[:, 2:])
    both = np.clip(last - first, 0, None).prod(axis=1)
    area, areas = box[2:].prod(), boxes[:, 2:].prod(axis=1)
    return both / np.maximum(area + areas - both, 1e-9), both / np.maximum(np.minimum(area, areas), 1e-9)
