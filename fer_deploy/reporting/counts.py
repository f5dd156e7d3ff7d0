"""What the page tells of all rows, counted as they come, in memory that does not grow with them."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any, Final

from fer_deploy.inference.predictions import ERROR, OK, Prediction
from fer_deploy.inference.table import valid_text
from fer_deploy.labels import LABELS, NUM_CLASSES

FOLDERS_COUNTED: Final = 5_000
FOLDERS_SHOWN: Final = 40
LISTED: Final = 2_000
"""How many failed files, and how many pictures without a face, are listed by name."""
CLIPS: Final = 12
BINS: Final = 120
OTHERS: Final = "(more folders)"


class Counts:
    """Pictures, faces, emotions, folders, failures and clips."""

    def __init__(self) -> None:
        self.pictures = self.faces = self.failed = self.without_face = 0
        self.emotions: Counter[str] = Counter()
        self.failures: list[tuple[str, str]] = []
        self.faceless: list[str] = []
        self._folders: dict[str, list[int]] = {}
        self._clips: dict[str, Clip] = {}
        self._last: str | None = None

    def add(self, prediction: Prediction) -> None:
        """Counts a row."""
        again = prediction.face or prediction.frame is not None  # a further face, or a further moment of a clip
        self.pictures += prediction.path != self._last or not again
        self._last = prediction.path
        if prediction.emotion is None:
            self._add_without_emotion(prediction)
            return
        index = LABELS.index(prediction.emotion)
        self.faces += 1
        self.emotions[prediction.emotion] += 1
        self._folder(prediction.path)[index] += 1
        if prediction.time_s is not None and (prediction.path in self._clips or len(self._clips) < CLIPS):
            self._clips.setdefault(prediction.path, Clip()).add(prediction.time_s, index)

    def _add_without_emotion(self, prediction: Prediction) -> None:
        if prediction.status == ERROR:
            self.failed += 1
            if len(self.failures) < LISTED:
                self.failures.append((valid_text(prediction.path), valid_text(prediction.reason)))
        elif prediction.status != OK:
            self.without_face += 1
            if len(self.faceless) < LISTED and prediction.frame is None:
                self.faceless.append(valid_text(prediction.path))

    def _folder(self, path: str) -> list[int]:
        folder = os.path.dirname(path) or "."  # noqa: PTH120  (for each row)
        if folder not in self._folders and len(self._folders) >= FOLDERS_COUNTED:
            folder = OTHERS
        return self._folders.setdefault(folder, [0] * NUM_CLASSES)

    def as_json(self) -> dict[str, Any]:
        """Gives what the page's script takes."""
        folders = sorted(self._folders.items(), key=lambda each: -sum(each[1]))
        return {
            "pictures": self.pictures,
            "faces": self.faces,
            "failed": self.failed,
            "withoutFace": self.without_face,
            "emotions": [self.emotions[label] for label in LABELS],
            "folders": [[valid_text(name), counts] for name, counts in folders[:FOLDERS_SHOWN]],
            "moreFolders": len(folders[FOLDERS_SHOWN:]),
            "clips": [[valid_text(path), clip.step_s, clip.bins] for path, clip in self._clips.items()],
            "failures": self.failures,
            "faceless": self.faceless,
        }


class Clip:
    """Emotions over a clip's time, in at most ``BINS`` bins: when they are full, pairs of them become one.

    Attributes:
        step_s: How much time a bin stands for.
        bins: Faces per class, a list for each bin.
    """

    def __init__(self) -> None:
        self.step_s = 1.0
        self.bins: list[list[int]] = []

    def add(self, time_s: float, index: int) -> None:
        """Counts a face at a time, 0 or later."""
        while time_s >= BINS * self.step_s:
            padded = [*self.bins, [0] * NUM_CLASSES]
            self.bins = [[a + b for a, b in zip(*padded[n : n + 2], strict=True)] for n in range(0, len(self.bins), 2)]
            self.step_s *= 2
        while len(self.bins) <= time_s / self.step_s:
            self.bins.append([0] * NUM_CLASSES)
        self.bins[int(time_s / self.step_s)][index] += 1
