"""Detectors that no package carries: what each file is, where it comes from, where ``fer-deploy fetch`` keeps it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fer_deploy.errors import ModelError, UsageError


@dataclass(frozen=True, slots=True)
class Fetched:
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


YUNET: Final = Fetched(
    name="yunet",
    what="YuNet, a small network that finds faces (OpenCV's model zoo)",
    url="https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/"
    "face_detection_yunet_2026may.onnx",
    licence="MIT",
    size_bytes=229_738,
    sha256="ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0",
)
FETCHED: Final = {each.name: each for each in (YUNET,)}
