"""Reads videos, and loads what that takes when the first one comes: most runs have none."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

from fer_deploy.images.files import is_video

if TYPE_CHECKING:
    from fer_deploy.backends.base import Backend
    from fer_deploy.inference.predictions import Prediction
    from fer_deploy.video.clips import ClipReader


class Clips:
    """Makes a ``ClipReader`` when it is needed; at once where settings are given, so that wrong ones are told.

    Args:
        look: See ``ClipReader``, as are the next two.
        every: None for the usual.
        smooth_s: None for the usual.
        given: Paths that are to be read; a video among them needs PyAV now.

    Raises:
        UsageError: A setting makes no sense.
        MissingDependencyError: A video is given and PyAV is not installed.
    """

    def __init__(
        self,
        look: Callable[[Any], Any],
        every: str | None = None,
        smooth_s: float | None = None,
        given: Iterable[str] = (),
    ) -> None:
        self._look, self._every, self._smooth_s = look, every, smooth_s
        self._made: ClipReader | None = None
        if every is not None or smooth_s is not None:
            self._make()
        if any(map(is_video, given)):
            from fer_deploy.video.reading import import_av

            import_av()

    def _make(self) -> ClipReader:
        from fer_deploy.video.clips import ClipReader
        from fer_deploy.video.every import DEFAULT
        from fer_deploy.video.smoothing import DEFAULT_S

        smooth_s = DEFAULT_S if self._smooth_s is None else self._smooth_s
        self._made = self._made or ClipReader(self._look, self._every or DEFAULT, smooth_s)
        return self._made

    def rows(self, path: str, backend: Backend) -> Generator[list[Prediction], None, None]:
        """See ``ClipReader.rows``."""
        return self._make().rows(path, backend)

    def settings(self) -> dict[str, str]:
        """Gives what decides about rows, for ``Journal``."""
        usual = "as usual"
        return {"every": self._every or usual, "smooth": usual if self._smooth_s is None else f"{self._smooth_s:g}"}

    def place(self) -> str:
        """Tells how far in which video it is; nothing where none is under way."""
        made = self._made
        if made is None or made.path is None:
            return ""
        whole = f" of {_clock(made.duration_s)}" if made.duration_s else ""
        done = min(1.0, made.time_s / made.duration_s) if made.duration_s else 0
        bar = "━" * round(_BAR * done)
        return f"{_clock(made.time_s)}{whole} {bar:{_BAR}}"


_BAR = 20


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
