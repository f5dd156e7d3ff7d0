"""The report: one HTML file that needs nothing else, neither a server nor the network.

Its data lie in it as JSON, its script and style come from ``assets/``. It forbids itself, by a content security policy
with their hashes, to load or run anything else; names of files reach it as text only.

What the page tells of all rows, counted as they come, in memory that does not grow with them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from string import Template
from types import TracebackType
from typing import Any, Final, Self

from fer_deploy.errors import UsageError
from fer_deploy.inference.prediction import ERROR, OK, Prediction, valid_text
from fer_deploy.labels import LABELS, NUM_CLASSES
from fer_deploy.reporting.gallery import SHOWN, Gallery
from fer_deploy.system.files import check_writable, written_whole

_SUFFIXES: Final = (".html", ".htm")
FOLDERS_COUNTED: Final = 5_000
FOLDERS_SHOWN: Final = 40
LISTED: Final = 2_000
"""How many failed files, and how many pictures without a face, are listed by name."""
CLIPS: Final = 12
BINS: Final = 120
OTHERS: Final = "(more folders)"


class Page:
    """Takes the rows of a run, and writes the page when it has ended; a run that was broken off leaves none.

    Args:
        target: Where it is written to: a new file that ends in .html.
        about: Called in the end: what the page tells of the run, as name and text.
        overwrite: Whether a file that exists already is replaced.
        shown: How many faces it shows at most.
        image: Gives the small picture of a row as it comes, where there will be no file to make it from.
        open_video: See ``Gallery``.

    Raises:
        UsageError: The name has another ending.
        OutputError: It exists already, or its folder does not exist.
    """

    def __init__(
        self,
        target: str | Path,
        about: Callable[[], Mapping[str, str]] = dict,
        overwrite: bool = False,
        shown: int = SHOWN,
        image: Callable[[Prediction], bytes] | None = None,
        open_video: Callable[[str], Any] | None = None,
    ) -> None:
        self.target = Path(target)
        self._about, self._image = about, image
        if self.target.suffix.lower() not in _SUFFIXES:
            raise UsageError(f"The report {str(target)!r} must end in .html")
        check_writable(target, overwrite)
        self._counts = Counts()
        self._gallery = Gallery(shown, open_video)

    def write(self, prediction: Prediction) -> None:
        """Takes a row."""
        self._counts.add(prediction)
        if prediction.emotion is not None:
            self._gallery.add(prediction, None if self._image is None else self._image(prediction))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        page = render(
            {
                "labels": LABELS,
                "made": time.strftime("%Y-%m-%d %H:%M"),
                "about": list(self._about().items()),
                "counts": self._counts.as_json(),
                "rows": self._gallery.as_json(self.target),
            }
        )
        with ExitStack() as stack:
            stack.enter_context(written_whole(self.target)).write_text(page, encoding="utf-8")


def render(data: Mapping[str, Any]) -> str:
    """Puts data, script and style into one page."""
    assets = files(__package__) / "assets"
    style, script = ((assets / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return Template((assets / "page.html").read_text(encoding="utf-8")).substitute(
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=_json(data),
    )


def _json(data: Mapping[str, Any]) -> str:
    """Writes JSON that no part of can end the element that it stands in: ASCII only, and no angle brackets."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


class Counts:
    """Pictures, faces, emotions, folders, failures and clips."""

    def __init__(self) -> None:
        self.images = self.faces = self.failed = self.without_face = 0
        self.emotions: Counter[str] = Counter()
        self.failures: list[tuple[str, str]] = []
        self.faceless: list[str] = []
        self._folders: dict[str, list[int]] = {}
        self._clips: dict[str, Clip] = {}
        self._last: str | None = None

    def add(self, prediction: Prediction) -> None:
        """Counts a row."""
        again = prediction.face or prediction.frame is not None  # a further face, or a further moment of a clip
        self.images += prediction.path != self._last or not again
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
            "pictures": self.images,
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
