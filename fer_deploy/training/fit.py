"""Training: stages of a recipe, one after the other, on any Keras backend, resumable after every epoch."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fer_deploy.data.fer2013 import PUBLIC, TRAINING, Fer2013, Partition
from fer_deploy.errors import TrainingError
from fer_deploy.metrics.calibration import log_loss
from fer_deploy.training.augmentation import scale
from fer_deploy.training.batches import epoch_batches, steps_per_epoch
from fer_deploy.training.checkpoint import FILE, Arrays, Checkpoint, check_folder
from fer_deploy.training.device import describe_device, resolve_precision
from fer_deploy.training.model import build_model, import_keras
from fer_deploy.training.norms import renew_norms
from fer_deploy.training.optimizer import ahead, as_arrays, averaged_weights, learning_rate_at, make_optimizer
from fer_deploy.training.recipe import PRECISIONS, Recipe, Stage
from fer_deploy.training.teachers import Teachers
from fer_deploy.training.torch_speed import use_torch_kernels

if TYPE_CHECKING:
    import keras

CLEAN_SAMPLE = 3000
"""Unchanged Training images that every epoch is scored on: they show how far the network fits what it is taught."""

Report = Callable[[str, dict[str, Any]], None]
"""Called as ``report(event, details)`` with the events ``start``, ``step`` and ``epoch``."""


@dataclass(frozen=True)
class Fitted:
    """What a training leads to.

    Args:
        model: float32 network with the weights that scored best on PublicTest.
        history: One row per epoch: stage, epoch, loss, accuracy, public_accuracy, public_log_loss, clean_accuracy
            (of unchanged Training images), learning_rate, images_per_s, seconds.
        best: The row of the epoch whose weights were kept.
        device: What it ran on, and in which precision.
    """

    model: keras.Model
    history: list[dict[str, Any]]
    best: dict[str, Any]
    device: dict[str, Any]


def fit(data: Fer2013, recipe: Recipe, output: Path, resume: bool = False, report: Report | None = None) -> Fitted:
    """Trains a network; PrivateTest is not touched.

    Args:
        data: FER-2013 with the partitions Training and PublicTest.
        recipe: What to do.
        output: Folder of the checkpoint; made if it is not there.
        resume: Go on from the folder's checkpoint.
        report: Gets progress.

    Raises:
        TrainingError: The folder holds another training, or there is nothing to resume.
        MissingDependencyError: Keras or its framework is not installed.
    """
    import_keras()
    earlier = Checkpoint.load(output) if resume else None
    return _Training(data, recipe, output, report or (lambda event, details: None), earlier).run()


class _Training:
    def __init__(self, data: Fer2013, recipe: Recipe, output: Path, report: Report, earlier: Checkpoint | None) -> None:
        self.recipe = recipe
        self.output = output
        self.report = report
        self.public = data.partition(PUBLIC)
        self.training = _choose(_without(data.partition(TRAINING), recipe.excluded), recipe.max_images, recipe.seed)
        self.clean = _choose(self.training, CLEAN_SAMPLE, 0)
        self.earlier = earlier
        self.policy = _earlier_policy(recipe, earlier) or resolve_precision(recipe.precision)
        self.device = {**describe_device(), "precision": self.policy}
        keras = import_keras()
        self.teachers = [Teachers(stage.teachers) for stage in recipe.stages]
        self.identity = {
            "recipe": as_json(dataclasses.asdict(recipe)),
            "teachers": [teachers.digests for teachers in self.teachers],
            "training_sha256": self.training.fingerprint(),
            "public_sha256": self.public.fingerprint(),
            "framework": f"{keras.backend.backend()}, {self.policy}",
        }

    def run(self) -> Fitted:
        state = self._begin()
        self.report("start", {"device": self.device, "epochs": self.recipe.epochs, "done": len(state.history)})
        for index in range(state.stage, len(self.recipe.stages)):
            if index > state.stage:
                state.stage, state.epoch, state.optimizer = index, 0, []
            # Dropout takes its seeds when a network is built: they must not depend on what ran before in this process.
            import_keras().utils.set_random_seed(self.recipe.seed + index)
            self._run_stage(self._build(self.policy, self.recipe.stages[index].size), state)
        best = self._build("float32", self.recipe.stages[-1].size)
        best.set_weights(state.best)
        return Fitted(best, state.history, state.best_row, self.device)

    def _begin(self) -> Checkpoint:
        if self.earlier is not None:
            for key, value in self.identity.items():
                if self.earlier.identity.get(key) != value:
                    raise TrainingError(
                        f"{self.output / FILE} belongs to another training (its {key} differs); "
                        "resume with the same recipe, data and Keras backend, or choose another --output"
                    )
            return self.earlier
        check_folder(self.output, resume=False)
        self.output.mkdir(parents=True, exist_ok=True)
        return Checkpoint(self.identity)

    def _build(self, policy: str, size: int, dropping: bool = True) -> keras.Model:
        shape = self.recipe.model
        if not dropping:
            shape = dataclasses.replace(shape, dropout=(0.0,) * len(shape.dropout))
        model = build_model(**dataclasses.asdict(shape), size=size, policy=policy)
        use_torch_kernels(model)
        return model

    def _run_stage(self, model: keras.Model, state: Checkpoint) -> None:
        stage = self.recipe.stages[state.stage]
        if state.epoch >= stage.epochs:
            return
        if state.epoch == 0 and stage.initial:
            _load_weights(model, Path(stage.initial))
        elif state.epoch == 0 and state.stage > 0:
            model.set_weights(state.best)
            if stage.size != self.recipe.stages[state.stage - 1].size:
                state.best_row = {}  # only scores of one size of pictures can be compared
        optimizer = make_optimizer(stage)
        model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
        optimizer.build(model.trainable_variables)
        if state.epoch > 0:
            _assign(_variables(model), state.model)
            _assign(optimizer.variables, state.optimizer)
        with self.teachers[state.stage]:
            for epoch in range(state.epoch, stage.epochs):
                row = self._run_epoch(model, state, epoch)
                self.report("epoch", row)

    def _run_epoch(self, model: keras.Model, state: Checkpoint, epoch: int) -> dict[str, Any]:
        stage = self.recipe.stages[state.stage]
        seed = (self.recipe.seed, state.stage, epoch)
        import_keras().utils.set_random_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        steps = steps_per_epoch(len(self.training), stage.batch_size)
        sums = {"loss": 0.0, "accuracy": 0.0}
        started = time.monotonic()
        batches = epoch_batches(self.training, stage, seed, self.teachers[state.stage])
        for step, (images, labels) in enumerate(batches, 1):
            model.optimizer.learning_rate = learning_rate_at(stage, epoch + (step - 1) / steps)
            with ahead(model.optimizer, stage.sharpness):
                logs = model.train_on_batch(images, labels, return_dict=True)
            if not math.isfinite(logs["loss"]):
                raise TrainingError(f"The loss became {logs['loss']} in epoch {epoch + 1}: lower the learning rate")
            sums = {name: total + float(logs[name]) for name, total in sums.items()}
            details = {"epoch": len(state.history) + 1, "step": step, "steps": steps, "pictures": len(images)}
            self.report("step", {**details, **{name: total / step for name, total in sums.items()}})
        seconds = time.monotonic() - started
        average = self._with_new_norms(averaged_weights(model, stage), stage)
        scores = self._scores(model, average)
        row = {
            "stage": state.stage + 1,
            "epoch": len(state.history) + 1,
            "loss": sums["loss"] / steps,
            "accuracy": sums["accuracy"] / steps,
            **scores,
            "learning_rate": learning_rate_at(stage, epoch + 1.0),
            "images_per_s": steps * min(stage.batch_size, len(self.training)) / seconds,
            "seconds": seconds,
        }
        state.epoch = epoch + 1
        state.history.append(row)
        state.model, state.optimizer = as_arrays(_variables(model)), as_arrays(model.optimizer.variables)
        if row["public_accuracy"] >= state.best_row.get("public_accuracy", 0.0):
            state.best, state.best_row = average, row
        state.save(self.output)
        return row

    def _with_new_norms(self, weights: Arrays, stage: Stage) -> Arrays:
        if not stage.norm_images:
            return weights
        model = self._build("float32", stage.size, dropping=False)
        model.set_weights(weights)
        random = np.random.default_rng(self.recipe.seed)
        images = self.training.images[random.permutation(len(self.training))[: stage.norm_images]]
        renew_norms(model, scale(images[..., np.newaxis].astype(np.float32), stage.size))
        return list(model.get_weights())

    def _scores(self, model: keras.Model, weights: Arrays) -> dict[str, float]:
        """Scores the given weights on PublicTest and on unchanged Training images; the model keeps its own."""
        own = model.get_weights()
        model.set_weights(weights)
        public = predict(model, self.public.images)
        clean = predict(model, self.clean.images)
        model.set_weights(own)
        return {
            "public_accuracy": float((public.argmax(axis=1) == self.public.labels).mean()),
            "public_log_loss": log_loss(public, self.public.labels),
            "clean_accuracy": float((clean.argmax(axis=1) == self.clean.labels).mean()),
        }


def predict(model: keras.Model, images: NDArray[Any], batch_size: int = 256) -> NDArray[np.float32]:
    """Runs a network over pictures, 0..255, shape (N, H, W), scaled if it takes smaller ones; returns float32
    probabilities, shape (N, 7)."""
    pictures = scale(images[..., np.newaxis].astype(np.float32, copy=False), model.input_shape[1])
    probabilities: NDArray[np.float32] = model.predict(pictures, batch_size=batch_size, verbose=0)
    return probabilities


def _earlier_policy(recipe: Recipe, earlier: Checkpoint | None) -> str:
    """The policy that a training began with, where the recipe leaves it open; empty where there is none.

    A machine of another kind goes on in it, even if it is not the faster one there.
    """
    if earlier is None or recipe.precision != "auto":
        return ""
    framework, _, policy = str(earlier.identity.get("framework")).partition(", ")
    return policy if framework == import_keras().backend.backend() and policy in PRECISIONS else ""


def _without(partition: Partition, excluded: str) -> Partition:
    if not excluded:
        return partition
    try:
        names = set(Path(excluded).read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"The list of pictures to leave out, {excluded}, cannot be read: {error}") from error
    if unknown := names - set(partition.names):
        raise TrainingError(f"{excluded} leaves out {min(unknown)!r:.80}, which is no picture of {TRAINING}")
    if len(names) == len(partition):
        raise TrainingError(f"{excluded} leaves out every picture of {TRAINING}")
    return partition.take(np.array([name not in names for name in partition.names]))


def _choose(partition: Partition, pictures: int, seed: int) -> Partition:
    if not 0 < pictures < len(partition):
        return partition
    return partition.take(np.sort(np.random.default_rng(seed).choice(len(partition), pictures, replace=False)))


def _load_weights(model: keras.Model, path: Path) -> None:
    try:
        model.set_weights(import_keras().models.load_model(path, compile=False).get_weights())
    except (OSError, ValueError) as error:
        raise TrainingError(f"Cannot start from the weights in {path}: {error}") from error


def _variables(model: keras.Model) -> list[Any]:
    """Weights, moving statistics and the states of random generators, without the metrics' counters."""
    metrics = {id(variable) for variable in model.metrics_variables}
    return [variable for variable in model.variables if id(variable) not in metrics]


def _assign(variables: list[Any], values: Arrays) -> None:
    if len(variables) != len(values):
        raise TrainingError("The checkpoint does not fit the network; start again in another folder")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def as_json(value: Any) -> Any:
    """Makes equal settings equal: tuples become lists, as JSON has them, and of absolute paths only the ends count."""
    if isinstance(value, dict):
        return {key: as_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(entry) for entry in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return "/".join(Path(value).parts[-2:])  # runs/first/bundle, wherever runs/ lies, becomes first/bundle
    return value
