"""Checkpoints: all that a training needs to go on as if it had never stopped, written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import TrainingError

Arrays = list[NDArray[Any]]
FILE = "checkpoint.npz"
COUNTERS = 2
"""Variables of an optimizer before its averages and momenta: iterations and learning rate."""


@dataclass
class Checkpoint:
    """Where a training stands at the end of an epoch.

    Args:
        identity: Of recipe, data and framework; a training only goes on with its own.
        stage: Index of the stage.
        epoch: Epochs of that stage that are done.
        history: One row per epoch done, over all stages.
        model: The network's variables in order (weights, moving statistics, states of random generators).
        optimizer: The optimizer's variables in order.
        best: The weights that scored best so far.
        best_row: Their row of the history.
    """

    identity: dict[str, Any]
    stage: int = 0
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    model: Arrays = field(default_factory=list)
    optimizer: Arrays = field(default_factory=list)
    best: Arrays = field(default_factory=list)
    best_row: dict[str, Any] = field(default_factory=dict)

    def compact(self) -> Checkpoint:
        """Returns a copy of about a quarter of the size, to be kept in version control.

        Matrices and kernels are half floats. While a stage is under way the copy has the weights and their moving
        average, and the momentum starts from zero; after its last epoch it has the best weights alone.
        """
        stage = self.identity["recipe"]["stages"][self.stage]
        if self.epoch >= stage["epochs"]:
            return dataclasses.replace(self, model=[], optimizer=[], best=[_halved(array) for array in self.best])
        slots = len(self.optimizer) - COUNTERS
        momenta = slots // 2 if stage["average"] else slots
        kept = [_halved(array) for array in self.optimizer[: len(self.optimizer) - momenta]]
        zeros = [np.zeros_like(_halved(array)) for array in self.optimizer[len(self.optimizer) - momenta :]]
        model = [_halved(array) for array in self.model]
        return dataclasses.replace(self, model=model, optimizer=kept + zeros, best=[], best_row={})

    def save(self, folder: Path, compressed: bool = False) -> None:
        """Writes the checkpoint next to the old one, then replaces that in one step."""
        state = {name: getattr(self, name) for name in ("identity", "stage", "epoch", "history", "best_row")}
        arrays = {
            f"{group}/{i}": array
            for group in ("model", "optimizer", "best")
            for i, array in enumerate(getattr(self, group))
        }
        partial = folder / (FILE + ".partial")
        with partial.open("wb") as file:
            write = np.savez_compressed if compressed else np.savez
            write(file, state=np.array(json.dumps(state)), **arrays)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Checkpoint:
        """Reads a folder's checkpoint.

        Raises:
            TrainingError: There is none, or it is damaged.
        """
        check_folder(folder, resume=True)
        path = folder / FILE
        try:
            with np.load(path, allow_pickle=False) as file:
                groups: dict[str, Arrays] = {"model": [], "optimizer": [], "best": []}
                for name in file.files:
                    group, _, _ = name.partition("/")
                    if group in groups:
                        groups[group].append(_widened(file[name]))
                state: dict[str, Any] = {**json.loads(str(file["state"])), **groups}
                return cls(**state)
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise TrainingError(f"{path} is damaged ({error}); start again in another folder") from error


def _halved(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float16) if array.dtype == np.float32 and array.ndim > 1 else array


def _widened(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32) if array.dtype == np.float16 else array


def check_folder(folder: Path, resume: bool) -> None:
    """Refuses a folder that has nothing to resume, or what a new training would overwrite.

    Raises:
        TrainingError: As said.
    """
    if resume and not (folder / FILE).exists():
        raise TrainingError(f"There is nothing to resume in {folder}: no {FILE}; start without --resume")
    if not resume and (folder / FILE).exists():
        raise TrainingError(f"{folder} holds an unfinished training: go on with --resume, or choose another --output")
