"""Which detector looks for faces: CenterFace as installed, YuNet as fetched, or either of them from a file.

Nothing is loaded from where the user did not say so, and nothing is downloaded here: ``fer-deploy fetch`` does that.

Detectors that no package carries: what each file is, where it comes from, where ``fer-deploy fetch`` keeps it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from fer_deploy.bundle.onnx_file import check_onnx, output_names
from fer_deploy.errors import MissingDependencyError, ModelError, UsageError, one_line
from fer_deploy.faces import networks
from fer_deploy.faces.detector import SMALLEST, TwoStageDetector
from fer_deploy.faces.networks import CenterFace, YuNet

AUTO: Final = "auto"
NAMES: Final = (AUTO, CenterFace.name, YuNet.name)
_NETWORKS: Final = (CenterFace, YuNet)
_MOST_BYTES: Final = 256 << 20
_INSTEAD: Final = f"take YuNet: fer-deploy fetch {YuNet.name}"
_TRIED: Final = (1, 64, 96, 3)
"""The picture that a file is tried on: sides that differ, multiples of 32."""


class Chosen(NamedTuple):
    """A detector's file, read but not loaded.

    Args:
        network: Which network it is.
        content: The file.
        what: How errors name it.
        why: Why ``auto`` took this one and not CenterFace; empty where it is CenterFace or was asked for.
        is_given: Whether it is the user's own file, which is tried before photos are.
    """

    network: type[CenterFace | YuNet]
    content: bytes
    what: str
    why: str = ""
    is_given: bool = False

    @property
    def label(self) -> str:
        """Tells the very file: the network's name and how its hash begins."""
        return f"{self.network.name} {hashlib.sha256(self.content).hexdigest()[:12]}"


def choose(which: str | os.PathLike[str] = AUTO) -> Chosen:
    """Finds a detector.

    Args:
        which: ``centerface``, ``yunet``, an ONNX file of either, or ``auto`` for CenterFace, or YuNet where only that
            is there. A name goes before a file of that name, which is ``./yunet``.

    Raises:
        MissingDependencyError: CenterFace is not installed, and ``auto`` found no YuNet either.
        UsageError: YuNet was not fetched; there is no such name or file.
        ModelError: The file is damaged, or no such network.
    """
    if which in (AUTO, CenterFace.name):
        try:
            return Chosen(CenterFace, networks.installed_file().read_bytes(), "centerface.onnx")
        except MissingDependencyError:
            if which != AUTO:
                raise
            if not YUNET.path.exists():
                raise MissingDependencyError(networks.WHAT, networks.EXTRA, instead=_INSTEAD) from None
        return Chosen(YuNet, YUNET.read(), YUNET.path.name, "CenterFace is not installed")
    if which == YuNet.name:
        return Chosen(YuNet, YUNET.read(), YUNET.path.name)
    content, what = _read(os.fspath(which)), os.fspath(which)
    check_onnx(content, what)
    outputs = output_names(content)
    for network in _NETWORKS:
        if network.is_one(outputs):
            return Chosen(network, content, what, is_given=True)
    known = " or ".join(f"{network.name}'s {network.outputs}" for network in _NETWORKS)
    raise ModelError(f"{what} has {_reported(outputs)}; what finds faces here has {known}")


def load(chosen: Chosen, smallest: int | None = None, threads: int | None = None) -> TwoStageDetector:
    """Loads a detector; a file that the user gave is tried on a black picture.

    Args:
        chosen: From ``choose``.
        smallest: Side in pixels of the smallest face that is looked for; None for the usual one.
        threads: Threads of the runtime; None leaves it to OpenVINO.

    Raises:
        ModelError: It cannot be run, or gives something else than the network that it looks like.
    """
    network = chosen.network(chosen.content, threads, chosen.what)
    if chosen.is_given:
        try:
            network.look(np.zeros(_TRIED, np.uint8), floor=0.0)
        except RuntimeError as error:
            raise ModelError(f"{chosen.what} cannot be run on pictures of any size: {one_line(error)}") from error
    return TwoStageDetector(network, smallest or SMALLEST)


def _read(path: str) -> bytes:
    if not os.path.lexists(path):
        raise UsageError(f"There is no detector {path!r}; there are: {', '.join(NAMES)}, or an ONNX file of one")
    try:
        if not Path(path).is_file():
            raise ModelError(f"{path} is no file; a detector is an ONNX file")
        if (size := Path(path).stat().st_size) > _MOST_BYTES:
            raise ModelError(f"{path} has {size:,} bytes; a detector has at most {_MOST_BYTES:,}")
        return Path(path).read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error


def _reported(outputs: tuple[str, ...]) -> str:
    names = one_line(", ".join(outputs), 80)
    return f"{len(outputs)} {'output' if len(outputs) == 1 else 'outputs'}" + (f" ({names})" if names else "")


@dataclass(frozen=True, slots=True)
class DownloadableModel:
    """A file that can be fetched.

    Args:
        name: How commands call it.
        what: What it is, in a few words.
        url: Where it comes from.
        licence: Of the file.
        size_bytes: How long it is.
        sha256: Its hash, in hexadecimal digits; a file with another one is never taken.
    """

    name: str
    what: str
    url: str
    licence: str
    size_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        """The name that its publisher gave it."""
        return self.url.rpartition("/")[2]

    @property
    def path(self) -> Path:
        """Where it is kept: below ``$XDG_DATA_HOME`` or ``~/.local/share``."""
        base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")  # noqa: PTH111  (never raises)
        return Path(base) / "fer-deploy" / "detectors" / self.file_name

    def fault(self, content: bytes) -> str:
        """Tells what is wrong with a file's content; empty if nothing is."""
        if len(content) != self.size_bytes:
            return f"has {len(content):,} bytes, and {self.name} has {self.size_bytes:,}"
        digest = hashlib.sha256(content).hexdigest()
        return "" if digest == self.sha256 else f"has the SHA-256 {digest}, and {self.name} has {self.sha256}"

    def is_there(self) -> bool:
        """Tells whether it was fetched and is as it should be."""
        try:
            return not self.fault(self.path.read_bytes())
        except OSError:
            return False

    def read(self) -> bytes:
        """Gives its content.

        Raises:
            UsageError: It was not fetched, or cannot be read.
            ModelError: It is another file.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise UsageError(
                f"{self.name} is not here ({self.path}: {error.strerror or error}). "
                f"Get it with: fer-deploy fetch {self.name}"
            ) from error
        if fault := self.fault(content):
            raise ModelError(f"{self.path} {fault}. Get it again with: fer-deploy fetch {self.name}")
        return content


YUNET: Final = DownloadableModel(
    name="yunet",
    what="YuNet, a small network that finds faces (OpenCV's model zoo)",
    url="https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/"
    "face_detection_yunet_2026may.onnx",
    licence="MIT",
    size_bytes=229_738,
    sha256="ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0",
)


FETCHED: Final = {each.name: each for each in (YUNET,)}
