"""Which detector looks for faces: CenterFace as installed, YuNet as fetched, or either of them from a file.

Nothing is loaded from where the user did not say so, and nothing is downloaded here: ``fer-deploy fetch`` does that.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from fer_deploy.errors import MissingDependencyError, ModelError, UsageError, one_line
from fer_deploy.faces import centerface, fetched
from fer_deploy.faces.centerface import CenterFace
from fer_deploy.faces.search import SMALLEST, TwoLooks
from fer_deploy.faces.yunet import YuNet
from fer_deploy.onnx_file import check_onnx, output_names

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
            return Chosen(CenterFace, centerface.installed_file().read_bytes(), "centerface.onnx")
        except MissingDependencyError:
            if which != AUTO:
                raise
            if not fetched.YUNET.path.exists():
                raise MissingDependencyError(centerface.WHAT, centerface.EXTRA, instead=_INSTEAD) from None
        return Chosen(YuNet, fetched.YUNET.read(), fetched.YUNET.path.name, "CenterFace is not installed")
    if which == YuNet.name:
        return Chosen(YuNet, fetched.YUNET.read(), fetched.YUNET.path.name)
    content, what = _read(os.fspath(which)), os.fspath(which)
    check_onnx(content, what)
    outputs = output_names(content)
    for network in _NETWORKS:
        if network.is_one(outputs):
            return Chosen(network, content, what, is_given=True)
    known = " or ".join(f"{network.name}'s {network.outputs}" for network in _NETWORKS)
    raise ModelError(f"{what} has {_told(outputs)}; what finds faces here has {known}")


def load(chosen: Chosen, smallest: int | None = None, threads: int | None = None) -> TwoLooks:
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
    return TwoLooks(network, smallest or SMALLEST)


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


def _told(outputs: tuple[str, ...]) -> str:
    names = one_line(", ".join(outputs), 80)
    return f"{len(outputs)} {'output' if len(outputs) == 1 else 'outputs'}" + (f" ({names})" if names else "")
