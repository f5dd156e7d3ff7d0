"""Sorts pictures by what was found in them: copies into a folder, or their paths on standard output."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from fer_deploy.errors import ImageError, UsageError
from fer_deploy.images.archive import inside_archive
from fer_deploy.inference.predictions import Prediction
from fer_deploy.inference.sinks import STDOUT, explained, standard_output
from fer_deploy.labels import LABELS
from fer_deploy.reporting.crew import Writers
from fer_deploy.reporting.naming import Names
from fer_deploy.reporting.pictures import content


@dataclass(frozen=True)
class Choice:
    """Which faces are wanted.

    Args:
        emotions: Of these; all of them if there are none.
        min_confidence: At least this sure, 0..1.

    Raises:
        UsageError: There is no such emotion, or no such confidence.
    """

    emotions: tuple[str, ...] = ()
    min_confidence: float = 0

    def __post_init__(self) -> None:
        if unknown := [each for each in self.emotions if each not in LABELS]:
            raise UsageError(f"There is no emotion {unknown[0]!r}; there are: {', '.join(LABELS)}")
        if not 0 <= self.min_confidence <= 1:
            raise UsageError(f"A confidence of {self.min_confidence} is none: it lies between 0 and 1")

    def __contains__(self, prediction: Prediction) -> bool:
        return (
            prediction.emotion is not None
            and (not self.emotions or prediction.emotion in self.emotions)
            and (prediction.confidence or 0) >= self.min_confidence
        )


class Copies(Writers):
    """Copies each picture that has a wanted face; with several emotions wanted, into a folder for each of them.

    A picture lies below the folder as it lay below what was given. What lies there already is never replaced: a copy
    that is there is left alone and counts as written, and another file of the same name gets company with a number.

    Args:
        folder: Where they go; made if it is not there.
        choice: What is wanted.
        inputs: What the run was given.
    """

    def __init__(self, folder: str | Path, choice: Choice, inputs: Sequence[str]) -> None:
        super().__init__(workers=1)  # one, so that numbered names do not depend on chance
        self._names = Names(folder, inputs)
        self._choice = choice
        self._last: tuple[str, set[str]] = ("", set())

    def write(self, prediction: Prediction) -> None:
        """Takes a row."""
        if prediction not in self._choice:
            return
        below = "" if len(self._choice.emotions) == 1 else str(prediction.emotion)
        if self._last[0] != prediction.path:
            self._last = (prediction.path, set())
        if below not in self._last[1]:
            self._last[1].add(below)
            self.hand_over(partial(self._copy, prediction.path, below))

    def _copy(self, name: str, below: str) -> bool:
        def write(target: Path) -> None:
            if inside_archive(name):
                target.write_bytes(content(name))
            else:
                shutil.copyfile(name, target)
                shutil.copystat(name, target)

        try:
            if not inside_archive(name) and not os.path.isfile(name):  # noqa: PTH113
                return False
            self._names.put(self._names.place(name, below), write)
        except ImageError:
            return False
        return True


class Listed:
    """Prints the path of each picture that has a wanted face, byte for byte, a line each.

    Args:
        choice: What is wanted.

    Raises:
        OutputError: From every method, when standard output cannot be written.
    """

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._last: str | None = None

    def write(self, prediction: Prediction) -> None:
        """Takes a row."""
        if prediction in self._choice and prediction.path != self._last:
            self._last = prediction.path
            with explained(STDOUT):
                self._file.write(os.fsencode(prediction.path) + b"\n")

    def __enter__(self) -> Self:
        self._file = standard_output()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with explained(STDOUT):
            self._file.flush()
