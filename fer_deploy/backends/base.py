"""What every backend is: the life cycle and the checks live here, a backend fills in load, infer and unload."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import BackendError, FerDeployError, MissingDependencyError, ModelError, one_line
from fer_deploy.labels import INPUT_SHAPE, NUM_CLASSES

Images = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


class BackendSettings(NamedTuple):
    """How a runtime is used where the user does not say; None is what the backend takes by itself.

    Args:
        threads: Of the runtime, for streams of batches.
        streams: Batches that the runtime computes at once.
        batch: Pictures per batch.
    """

    threads: int | None = None
    streams: int | None = None
    batch: int | None = None


class Backend(ABC):
    """One model form, loaded into one runtime on one device.

    Args:
        bundle: Where the model comes from.
        precision: Of the artefact (``fp32``, ...), or one that the runtime makes of fp32 (``bf16``).
        device: ``cpu``, ``cuda``, ...; the backend refuses what it cannot really use.
        threads: Threads of the runtime; ``None`` leaves it to the backend (physical cores).

    Attributes:
        name: The backend's name in options and tables.
        install: What to ``pip install`` when it is missing; several to choose from.
        precisions: What it can be asked for.
        devices: What it can be asked for.
        format: Of the bundle's files that it runs.
        modules: What must be importable, the runtime itself first; ``a|b`` where one of them will do.
        aliases: Other words for its precisions.
        tta: How more than one look at a picture makes its answer (``flip``); None where one does.
        default_batch: Pictures per batch that suit it where nothing was measured.
        settings: What it does with what the user leaves open; to be set before ``open``.
        effective: After open: the type that the runtime really computes in.
        runtime: After open: the runtime's name and version.
        gpu: After open: the GPU's name where it runs on one, else empty.
        simulated: Whether it stands in for the runtime that the file is for: right about answers, not about speed.
    """

    name: ClassVar[str]
    install: ClassVar[tuple[str, ...]]
    precisions: ClassVar[tuple[str, ...]]
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    format: ClassVar[str] = "onnx"
    modules: ClassVar[tuple[str, ...]] = ()
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType({})
    tta: ClassVar[str | None] = None
    default_batch: ClassVar[int] = 64

    def __init__(
        self, bundle: Bundle, precision: str = "fp32", device: str = "cpu", threads: int | None = None
    ) -> None:
        precision = self.aliases.get(precision, precision)
        if precision not in self.precisions:
            raise BackendError(
                f"The {self.name} backend has no precision {precision}; it has: {', '.join(self.precisions)}"
            )
        if device not in self.devices:
            raise BackendError(f"The {self.name} backend has no device {device}; it has: {', '.join(self.devices)}")
        self.bundle = bundle
        self.precision = precision
        self.device = device
        self.threads = threads
        self.settings = BackendSettings()
        self.effective = ""
        self.runtime = ""
        self.gpu = ""
        self.simulated = False
        self._open = False

    @property
    def batch(self) -> int:
        """Pictures per batch with which a stream is fastest, as far as it is known."""
        return self.settings.batch or self.default_batch

    def parallelism(self, streaming: bool) -> tuple[int | None, int | None]:
        """Tells how many streams and threads an open backend uses; None where it does not know.

        Args:
            streaming: In ``run_stream``, else in ``run``.
        """
        return None, self.threads

    @classmethod
    def missing(cls) -> tuple[str, ...]:
        """Returns which of ``modules`` are not there, without importing any."""
        return tuple(entry for entry in cls.modules if not any(_is_there(name) for name in entry.split("|")))

    @classmethod
    def is_installed(cls) -> bool:
        """Tells whether the runtime is there, without importing it: whether it works is another question."""
        return not cls.missing()

    @classmethod
    def import_runtime(cls) -> Any:
        """Imports the runtime, the first of ``modules``, and returns its module; None where there is none.

        Raises:
            Exception: Whatever the runtime raises; where one of several will do, what the first of them raised.
        """
        failures = []
        for name in cls.modules[0].split("|") if cls.modules else ():
            try:
                return import_module(name)
            except Exception as error:  # a runtime can fail in any way while it is imported
                failures.append(error)
        if failures:
            raise failures[0]
        return None

    def open(self) -> Self:
        """Loads the model; afterwards ``effective`` and ``runtime`` tell what is in use.

        Raises:
            MissingDependencyError: The runtime is not installed.
            UnavailableError: This machine does not have what was asked for.
            BackendError: The runtime does not use what was asked for, or refuses the file.
            BundleError: The bundle lacks the file, or it does not match its hash.
            ModelError: The model does not fit the contract.
        """
        if not self._open:
            try:
                with self._explained("cannot load the model"):
                    self._load()
            except BaseException:
                self._unload()
                raise
            self._open = True
        return self

    def close(self) -> None:
        """Frees the runtime's memory; a closed backend can be opened again."""
        if self._open:
            self._open = False
            self._unload()

    def run(self, batch: Images) -> Probabilities:
        """Classifies one batch.

        Args:
            batch: uint8, shape (N, 48, 48, 1), N >= 1, gray, 0..255.

        Returns:
            float32, shape (N, 7), rows sum to 1, columns in the order of ``LABELS``.

        Raises:
            BackendError: The backend is not open, the batch does not fit the contract, or the runtime failed.
        """
        self._check(batch)
        try:  # as _explained does, which costs a microsecond
            return self._infer(batch)
        except FerDeployError:
            raise
        except Exception as error:
            raise self._error(f"failed on a batch of {len(batch)}", error) from error

    def run_stream(self, batches: Iterable[Images]) -> Generator[Probabilities, None, None]:
        """Classifies batches in order; a runtime that can keep several in flight overrides this.

        Closing the generator ends it at any point; what was in flight is waited for.
        """
        for batch in batches:
            yield self.run(batch)

    def run_concurrent(self, batch: Images) -> Probabilities:
        """Does what ``run`` does; a runtime that needs other settings when several threads run batches overrides it."""
        return self.run(batch)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turns whatever a runtime raises (each has types of its own) into an error of ours, on one line."""
        try:
            yield
        except FerDeployError:
            raise
        except Exception as error:
            raise self._error(what, error) from error

    def _error(self, what: str, error: Exception) -> FerDeployError:
        if isinstance(error, ModuleNotFoundError):
            return MissingDependencyError(f"What the {self.name} backend needs ({error.name})", *self.install)
        reason = one_line(error)
        return BackendError(f"The {self.name} backend {what}: {type(error).__name__}: {reason}")

    def _check_model(self, takes: tuple[str, str, str], gives: tuple[str, str, str]) -> None:
        """Compares what a loaded model takes and gives, each as name, type and shape without N, with the contract."""
        expected = ("image", "uint8", str(INPUT_SHAPE)), ("probabilities", "float32", f"({NUM_CLASSES},)")
        if (takes, gives) != expected:
            raise ModelError(
                f"The {self.precision} model of {self.bundle.path} takes {' '.join(takes)} and gives "
                f"{' '.join(gives)}; expected {' '.join(expected[0])} and {' '.join(expected[1])}. "
                "Export it with: fer-deploy export"
            )

    def _check(self, batch: Any) -> None:
        if not self._open:
            raise BackendError(f"The {self.name} backend is not open: call open() or use it in a with statement")
        if (
            not isinstance(batch, np.ndarray)
            or batch.dtype != np.uint8
            or batch.shape[1:] != INPUT_SHAPE
            or not len(batch)
        ):
            got = f"{batch.dtype} {batch.shape}" if isinstance(batch, np.ndarray) else type(batch).__name__
            raise BackendError(
                f"A batch must be uint8 of shape (N, {', '.join(map(str, INPUT_SHAPE))}), N >= 1; got {got}"
            )

    @abstractmethod
    def _load(self) -> None:
        """Imports the runtime, loads the model, sets ``effective`` and ``runtime``."""

    @abstractmethod
    def _infer(self, batch: Images) -> Probabilities:
        """Runs a checked batch."""

    @abstractmethod
    def _unload(self) -> None:
        """Drops what ``_load`` made."""

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # a folder without the package, or what a program has put in its place
        return False
