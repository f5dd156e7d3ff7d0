"""Checkpoints: all that a training needs to go on as if it had never stopped, written whole or not at all."""

from __future__ import annotations

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

    def save(self, folder: Path) -> None:
        """Writes the checkpoint beside the old one, then puts it in its place in one step."""
        state = {name: getattr(self, name) for name in ("identity", "stage", "epoch", "history", "best_row")}
        arrays = {
            f"{group}/{i}": array
            for group in ("model", "optimizer", "best")
            for i, array in enumerate(getattr(self, group))
        }
        partial = folder / (FILE + ".partial")
        with partial.open("wb") as file:
            np.savez(file, state=np.array(json.dumps(state)), **arrays)
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
                        groups[group].append(file[name])
                state: dict[str, Any] = {**json.loads(str(file["state"])), **groups}
                return cls(**state)
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise TrainingError(f"{path} is damaged ({error}); start again in another folder") from error


def check_folder(folder: Path, resume: bool) -> None:
    """Refuses a folder that has nothing to resume, or what a new training would overwrite.

    Raises:
        TrainingError: As said.
    """
    if resume and not (folder / FILE).exists():
        raise TrainingError(f"There is nothing to resume in {folder}: no {FILE}; start without --resume")
    if not resume and (folder / FILE).exists():
        raise TrainingError(f"{folder} holds an unfinished training: go on with --resume, or choose another --output")
