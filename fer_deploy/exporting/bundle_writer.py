"""Writes a bundle's folder whole or not at all: it grows beside its place and is renamed into it when complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fer_deploy.bundle import MANIFEST, Bundle
from fer_deploy.errors import BundleError, OutputError
from fer_deploy.evaluation.keras_outputs import OUTPUTS_FILE
from fer_deploy.files import written_whole

KERAS_FILE = "model.keras"
ONNX_FILE = "model.onnx"
ONNX_FILES = {
    "fp32": ONNX_FILE,
    **{precision: f"model.{precision}.onnx" for precision in ("fp16", "int8", "int8-trt")},
}
"""Precision -> file name."""


def check_output(output: Path, overwrite: bool) -> None:
    """Refuses a place where a bundle cannot or must not be written, before any work is done.

    Raises:
        OutputError: Something is there already and ``overwrite`` is off; or it is not a bundle and nothing else, so
            that replacing it would delete what is not ours.
    """
    if output.is_dir():
        present = {entry.name for entry in output.iterdir()}
        if present and not overwrite:
            raise OutputError(f"{output} exists already; replace it with --overwrite, or choose another --output")
        foreign = sorted(present - _bundle_files(output)) if present else []
        if foreign:
            raise OutputError(f"{output} holds more than a bundle ({foreign[0]}): it is not replaced. Choose another")
    elif output.exists() or output.is_symlink():
        raise OutputError(f"{output} exists and is not a folder; choose another --output")


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Gives a new folder to fill, and puts it in the place of ``output`` when the block ends without an error.

    Raises:
        OutputError: The folder cannot be made, filled or moved; nothing is left behind, what was there stays.
    """
    output = output.resolve()  # through a link: the folder that it leads to is replaced
    with written_whole(output) as partial:
        partial.mkdir(parents=True)
        yield partial


def _bundle_files(folder: Path) -> set[str]:
    """Names at the top of a bundle's folder that belong to the bundle; none where there is no manifest."""
    if not (folder / MANIFEST).is_file():
        return set()
    names = {MANIFEST, KERAS_FILE, OUTPUTS_FILE, *ONNX_FILES.values()}
    with suppress(BundleError):  # damaged: the names that export writes are known all the same
        names.update(artefact.file.partition("/")[0] for artefact in Bundle.load(folder).artefacts)
    return names
