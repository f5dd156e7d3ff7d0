"""Which faces the page shows, and their small pictures: bounded in number and in bytes, whatever a run holds."""

from __future__ import annotations

import base64
import heapq
import os
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from fer_deploy.errors import FerDeployError
from fer_deploy.images.archive import inside_archive
from fer_deploy.inference.prediction import Prediction, valid_text
from fer_deploy.labels import LABELS
from fer_deploy.reporting.ordered_pool import OrderedPool
from fer_deploy.reporting.thumbnails import thumbnail, thumbnails

SHOWN: Final = 10_000
"""Faces on a page at most: half of them the least sure ones of all, the others drawn by chance from the rest."""
SIDES: Final = ((400, 224), (2_000, 128), (SHOWN, 72))
"""Up to how many faces which width and height of their small pictures, in pixels."""
MOST_BYTES: Final = 16 << 20
"""Of all small pictures together; as text in the page they take a third more."""
_PERMILLE: Final = 1_000


class Gallery:
    """Keeps the rows that are to be shown.

    Args:
        shown: How many at most.
        open_video: Opens a video by its path (``video.reader.Video``); without it videos have no small pictures.

    Attributes:
        seen: How many rows came.
    """

    def __init__(self, shown: int = SHOWN, open_video: Callable[[str], Any] | None = None) -> None:
        self._open_video = open_video
        self.seen = 0
        self._half = shown // 2
        self._unsure: list[tuple[float, int, Prediction]] = []  # a heap whose first is the surest
        self._others: list[tuple[int, Prediction]] = []
        self._images: dict[int, bytes] = {}  # of those two, by number
        self._passed = 0
        self._chance = random.Random(0)

    def add(self, prediction: Prediction, image: bytes | None = None) -> None:
        """Keeps a row with an emotion, or drops it.

        Args:
            prediction: The row.
            image: Its small picture as a WebP file, where there will be no file to make it from.
        """
        if image is not None:
            self._images[self.seen] = image
        entry = (-(prediction.confidence or 0), self.seen, prediction)
        self.seen += 1
        if len(self._unsure) < self._half:
            heapq.heappush(self._unsure, entry)
            return
        _, number, surer = heapq.heappushpop(self._unsure, entry)
        self._passed += 1
        if len(self._others) < self._half:
            self._others.append((number, surer))
            return
        if (place := self._chance.randrange(self._passed)) < self._half:  # so that each stays equally likely
            dropped, self._others[place] = self._others[place][0], (number, surer)
            number = dropped
        self._images.pop(number, None)

    def rows(self) -> list[Prediction]:
        """Gives the kept rows in the order in which they came."""
        return [row for _, row in self._kept()]

    def _kept(self) -> list[tuple[int, Prediction]]:
        kept = [(number, row) for _, number, row in self._unsure] + self._others
        return sorted(kept, key=lambda each: each[0])

    def as_json(self, page: Path) -> list[dict[str, Any]]:
        """Gives what the page's script takes, the small pictures that are not there made now from the files.

        Args:
            page: Where the page will lie, which links to pictures start from.
        """
        kept = self._kept()
        rows = [row for _, row in kept]
        shown = [_entry(row, page) for row in rows]
        there = [(index, self._images[number]) for index, (number, _) in enumerate(kept) if number in self._images]
        missing = sorted(set(range(len(rows))).difference(index for index, _ in there))
        side = next(side for most, side in SIDES if len(rows) <= most or most == SIDES[-1][0])
        photos = [list(group) for _, group in groupby(missing, key=lambda index: rows[index].path)]
        photos.sort(key=lambda group: min(rows[index].confidence or 0 for index in group))  # those to check come first
        left = MOST_BYTES
        for images in chain(
            [there], _made([[(index, rows[index]) for index in group] for group in photos], side, self._open_video)
        ):
            for index, image in images:
                left -= len(image)
                if left < 0:
                    return shown
                shown[index]["picture"] = base64.b64encode(image).decode()
        return shown


_Numbered = list[tuple[int, Prediction]]
"""Rows of one picture or video, each with its number on the page."""
_Thumbnails = list[tuple[int, bytes]]
"""Small pictures, each with that number."""


def _made(groups: list[_Numbered], side: int, open_video: Callable[[str], Any] | None) -> Iterator[_Thumbnails]:
    """Makes the small pictures of faces by several threads, in the order of the groups."""
    with OrderedPool[_Thumbnails]() as pool:
        for group in groups:
            is_video = group[0][1].frame is not None
            if not is_video:
                yield from pool.do(partial(_of_photo, group, side))
            elif open_video is not None:
                yield from pool.do(partial(_of_video, group, side, open_video))
        yield from pool.rest()


def _of_photo(group: _Numbered, side: int) -> _Thumbnails:
    made = thumbnails(group[0][1].path, [row.box for _, row in group], side)
    return [(index, image) for (index, _), image in zip(group, made, strict=False)]


def _of_video(group: _Numbered, side: int, open_video: Callable[[str], Any]) -> _Thumbnails:
    """Reads a video once more, up to the last picture that is wanted."""
    from PIL import Image

    wanted: dict[int, _Numbered] = {}
    for index, row in group:
        wanted.setdefault(row.frame or 0, []).append((index, row))
    made: _Thumbnails = []
    try:
        with open_video(group[0][1].path) as video, closing(video.frames()) as frames:
            for frame in frames:
                faces = wanted.pop(frame.number, [])
                image = Image.fromarray(frame.pixels()) if faces else None
                made += [(index, thumbnail(image, row.box, 1 / frame.scale, side)) for index, row in faces if image]
                if not wanted:
                    break
    except (FerDeployError, OSError, ValueError):  # not there any more, as a camera's pictures are
        pass
    return made


def _entry(row: Prediction, page: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "path": valid_text(row.path),
        "emotion": LABELS.index(row.emotion or LABELS[0]),
        "confidence": round(row.confidence or 0, 4),
        "permille": [round(_PERMILLE * value) for value in row.probabilities],
    }
    if os.path.lexists(row.path):
        entry["link"] = _link(row.path, page)
    elif place := inside_archive(row.path):
        entry["link"] = _link(place[0], page)
    if row.box is not None:
        entry |= {"face": row.face, "box": [round(value) for value in row.box], "score": round(row.face_score or 0, 3)}
    if row.time_s is not None:
        entry |= {"time": round(row.time_s, 2), "track": row.track}
    return entry


def _link(path: str, page: Path) -> str:
    """Makes an address relative to the page; it begins with a point, so that no name is taken for a scheme."""
    relative = os.path.relpath(path, page.parent)
    return quote(os.fsencode(relative if relative.startswith("..") else f"./{relative}"))
