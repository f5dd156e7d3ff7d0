"""Every error that fer-deploy raises on purpose.

FerDeployError                  anything below; its text is meant for the user, as it stands
├── UsageError                  the request makes no sense (unknown option value, nothing to do)
├── MissingDependencyError      a package that the request needs is not installed
├── BackendError                a backend, device or precision that was asked for is not in use
│   └── UnavailableError        this machine, its drivers or this bundle do not have it, so that nothing is wrong with
│                               the model
├── BundleError                 a bundle is missing, damaged, or not one of ours
├── ModelError                  a Keras or ONNX model is unreadable or does not fit the contract
├── DataError                   a data set is not FER-2013 or holds bad rows
├── ImageError                  one picture cannot be read (costs one row, never the run)
├── CameraError                 a camera or a stream cannot be opened
├── DownloadError               a file that was to be fetched cannot be had, or is another than it should be
├── OutputError                 results cannot be written where they were asked for
├── TrainingError               a recipe is wrong or a training cannot start, resume or go on
└── StoppedError                the user stopped it; the text says what is kept and how to go on
"""

from __future__ import annotations

from typing import ClassVar


class FerDeployError(Exception):
    """Base of all errors that fer-deploy raises on purpose; the text names the thing and the next step."""

    exit_code: ClassVar[int] = 2


class UsageError(FerDeployError):
    """The request itself makes no sense."""


class MissingDependencyError(FerDeployError):
    """A package that the request needs is not installed.

    Args:
        what: What needs the package, for example ``"The onnx backend"``.
        install: One or more requirement strings; with several, the user picks one of them.
        instead: What can be done without it, and how.
    """

    def __init__(self, what: str, *install: str, instead: str = "") -> None:
        self.install = install
        lines = " or ".join(f"pip install '{requirement}'" for requirement in install)
        super().__init__(f"{what} is not installed here. Install it with: {lines}{instead and f'; or {instead}'}")


class BackendError(FerDeployError):
    """A backend, device or precision that was asked for is not in use."""


class UnavailableError(BackendError):
    """This machine, its drivers or this bundle do not have what was asked for; it says nothing about the model."""


class BundleError(FerDeployError):
    """A bundle is missing, damaged, or not one of ours."""


class ModelError(FerDeployError):
    """A model file is unreadable or does not fit the input and output contract."""


class DataError(FerDeployError):
    """A data set is not FER-2013, or holds bad rows."""


class ImageError(FerDeployError):
    """One picture cannot be read."""


class CameraError(FerDeployError):
    """A camera or a stream cannot be opened."""


class DownloadError(FerDeployError):
    """A file that was to be fetched cannot be had, or is another than it should be."""


class OutputError(FerDeployError):
    """Results cannot be written where they were asked for."""


class TrainingError(FerDeployError):
    """A recipe is wrong, or a training cannot start, resume or go on."""


class StoppedError(FerDeployError):
    """The user stopped it; the text says what is kept and how to go on."""

    exit_code = 130


def one_line(text: object, limit: int = 300) -> str:
    """Brings what others say of an error into one line of bounded length; an exception gives its text."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
