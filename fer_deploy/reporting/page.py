"""The report: one HTML file that needs nothing else, neither a server nor the network.

Its data lie in it as JSON, its script and style come from ``assets/``. It forbids itself, by a content security policy
with their hashes, to load or run anything else; names of files reach it as text only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from string import Template
from types import TracebackType
from typing import Any, Final, Self

from fer_deploy.errors import OutputError, UsageError
from fer_deploy.files import check_new, written_whole
from fer_deploy.inference.predictions import Prediction
from fer_deploy.labels import LABELS
from fer_deploy.reporting.counts import Counts
from fer_deploy.reporting.gallery import SHOWN, Gallery

_SUFFIXES: Final = (".html", ".htm")


class Page:
    """Takes the rows of a run, and writes the page when it has ended; a run that was broken off leaves none.

    Args:
        target: Where it is written to: a new file that ends in .html.
        about: Called in the end: what the page tells of the run, as name and text.
        overwrite: Whether a file that exists already is replaced.
        shown: How many faces it shows at most.
        picture: Gives the small picture of a row as it comes, where there will be no file to make it from.

    Raises:
        UsageError: The name has another ending.
        OutputError: It exists already, or its folder does not exist.
    """

    def __init__(
        self,
        target: str | Path,
        about: Callable[[], Mapping[str, str]] = dict,
        overwrite: bool = False,
        shown: int = SHOWN,
        picture: Callable[[Prediction], bytes] | None = None,
    ) -> None:
        self.target = Path(target)
        self._about, self._picture = about, picture
        if self.target.suffix.lower() not in _SUFFIXES:
            raise UsageError(f"The report {str(target)!r} must end in .html")
        check_new(target, overwrite)
        if not self.target.parent.is_dir() or self.target.is_dir():
            raise OutputError(f"cannot write to {target}: its folder does not exist, or a folder has this name")
        self._counts = Counts()
        self._gallery = Gallery(shown)

    def write(self, prediction: Prediction) -> None:
        """Takes a row."""
        self._counts.add(prediction)
        if prediction.emotion is not None:
            self._gallery.add(prediction, None if self._picture is None else self._picture(prediction))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        page = render(
            {
                "labels": LABELS,
                "made": time.strftime("%Y-%m-%d %H:%M"),
                "about": list(self._about().items()),
                "counts": self._counts.as_json(),
                "rows": self._gallery.as_json(self.target),
            }
        )
        with ExitStack() as stack:
            stack.enter_context(written_whole(self.target)).write_text(page, encoding="utf-8")


def render(data: Mapping[str, Any]) -> str:
    """Puts data, script and style into one page."""
    assets = files(__package__) / "assets"
    style, script = ((assets / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return Template((assets / "page.html").read_text(encoding="utf-8")).substitute(
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=_json(data),
    )


def _json(data: Mapping[str, Any]) -> str:
    """Writes JSON that no part of can end the element that it stands in: ASCII only, and no angle brackets."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
