"""Reads a video picture by picture, in memory that does not grow with its length.

PyAV (FFmpeg's libraries) decodes. A file is opened by us and never by FFmpeg, and only as one of ``_FORMATS``: what
looks like a play list could else make FFmpeg open other files, or addresses on the network.

How many of a video's pictures are looked at: ``--every 0.5s``, ``--every 10f``.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import ImageError, MissingDependencyError, UsageError
from fer_deploy.images.archive import inside_archive, open_member
from fer_deploy.images.file_kinds import open_regular

EXTRA: Final = "fer-deploy[video]"
LONGEST_SIDE: Final = 1920
"""Larger pictures are reduced to it; faces are looked for in pictures no larger than that anyway."""
MOST_PIXELS: Final = 1 << 26
_FORMATS: Final = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg"
_BUFFER: Final = 1 << 18
_MISSING_S: Final = 0.25  # an end that comes so much earlier than the header says is told
_MISSING_SHARE: Final = 0.02
DEFAULT: Final = "0.5s"
_VARIANT: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(s)|(\d+)f?").fullmatch


@dataclass(frozen=True, slots=True, eq=False)
class VideoFrame:
    """One picture of a video, its pixels not converted yet.

    Args:
        number: From 0, in the order in which they are shown.
        time_s: Since the first one, in seconds.
        frame: What PyAV decoded.
        quarters: How often it has to be turned by 90 degrees against the clock to be upright.
        scale: How many pixels of the upright video one of ``pixels`` is wide.
        size: Width and height of ``pixels`` before they are turned.
    """

    number: int
    time_s: float
    frame: Any
    quarters: int
    scale: float
    size: tuple[int, int]

    def pixels(self) -> NDArray[np.uint8]:
        """Converts: uint8 (H, W, 3), RGB, upright, with square pixels. Safe in any thread."""
        turned = self.frame.to_ndarray(format="rgb24", width=self.size[0], height=self.size[1])
        return np.ascontiguousarray(np.rot90(turned, self.quarters))


class Video:
    """A video that is open for reading: a context manager.

    Args:
        path: The file, or ``archive.zip/clip.mp4``.

    Attributes:
        duration_s: Its length in seconds as its header tells; None where it does not.
        rate: Pictures per second as its header tells; None where it does not.
        trouble: After reading: why not all of it could be read; else None.

    Raises:
        ImageError: It cannot be opened or holds no pictures; the reason in a few words, without the path.
        MissingDependencyError: PyAV is not installed.
    """

    def __init__(self, path: str) -> None:
        self._av = import_av()
        self.trouble: str | None = None
        self._stack = ExitStack()
        try:
            self._open(path)
        except BaseException:
            self._stack.close()
            raise

    def _open(self, path: str) -> None:
        place = inside_archive(path)
        file = self._stack.enter_context(open_member(*place) if place else open_regular(path))
        options = {"format_whitelist": _FORMATS}
        try:
            container = self._av.open(file, options=options, metadata_errors="replace", buffer_size=_BUFFER)
        except (self._av.FFmpegError, ValueError, OSError) as error:
            raise ImageError(f"no video, or a damaged one ({why(error)})") from error
        self._container = self._stack.enter_context(container)
        covers = self._av.stream.Disposition.attached_pic
        streams = [stream for stream in container.streams.video if not stream.disposition & covers]
        if not streams:
            raise ImageError("a file without moving pictures (only sound, or nothing)")
        self._stream = streams[0]
        context = self._stream.codec_context
        if context is None:
            raise ImageError("a video whose encoding this PyAV cannot read")
        if context.width * context.height > MOST_PIXELS:
            raise ImageError(f"too large: {context.width}x{context.height} pixels, the limit is {MOST_PIXELS}")
        context.thread_type = "AUTO"
        context.options = {"max_pixels": str(MOST_PIXELS)}
        self.rate: Fraction | None = self._stream.average_rate or self._stream.guessed_rate
        self.duration_s = self._length()

    def _length(self) -> float | None:
        stream = self._stream
        if stream.duration:
            return float(stream.duration * stream.time_base)
        if reported := _clock(stream.metadata.get("DURATION", "")):  # Matroska
            return reported
        if self._container.duration and len(self._container.streams) == 1:
            return float(self._container.duration / self._av.time_base)
        return None

    def frames(self, every: FrameSampling | None = None) -> Generator[VideoFrame, None, None]:
        """Reads to the end, or to where it cannot be read any further; ``trouble`` tells which.

        Args:
            every: Which pictures are wanted; None for all of them.
        """
        start: Fraction | None = None
        time_s, taken, number = Fraction(), -1, -1
        for number, frame in enumerate(self._frames()):
            stamp = Fraction(frame.pts) * frame.time_base if frame.pts is not None else None
            start = stamp if start is None else start
            if stamp is not None and start is not None:
                time_s = max(time_s, stamp - start)
            elif self.rate:
                time_s = max(time_s, number / self.rate)
            stretch = number if every is None else every.stretch(number, time_s)
            if stretch > taken:
                taken = stretch
                yield to_video_frame(number, float(time_s), frame, self._stream.sample_aspect_ratio)
        if number < 0:
            self.trouble = self.trouble or "no picture in it could be read"
        elif self.trouble is None and self.duration_s is not None:
            end = float(time_s + (1 / self.rate if self.rate else 0))
            if end < self.duration_s - max(_MISSING_S, _MISSING_SHARE * self.duration_s):
                self.trouble = f"truncated: it ends after {end:.1f} of {self.duration_s:.1f} s"

    def _frames(self) -> Iterator[Any]:
        """Decodes; what is damaged is left out."""
        read = 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (self._av.FFmpegError, OSError) as error:
                self.trouble = self.trouble or f"cannot be read any further ({why(error)})"
                packet, packets = None, iter(())
                yield from self._rest()
            if packet is None:
                return
            try:
                for frame in packet.decode():
                    if frame.is_corrupt:
                        self.trouble = self.trouble or f"damaged behind picture {read}"
                    elif frame.width * frame.height <= MOST_PIXELS:
                        read += 1
                        yield frame
            except (self._av.FFmpegError, ValueError) as error:
                self.trouble = self.trouble or f"damaged behind picture {read} ({why(error)})"

    def _rest(self) -> Iterator[Any]:
        """Gives what the decoder still holds."""
        try:
            yield from self._stream.decode(None)
        except self._av.FFmpegError:  # the trouble is told already
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def to_video_frame(number: int, time_s: float, frame: Any, aspect: Fraction | None) -> VideoFrame:
    """Makes a moment of a picture that was decoded.

    Args:
        number: See ``Moment``, as is the next.
        time_s: Since the first picture.
        frame: What PyAV decoded.
        aspect: How much wider than high its pixels are; None where that is not known.
    """
    width, height = frame.width * float(aspect or 1), float(frame.height)  # square pixels
    scale = max(1.0, max(width, height) / LONGEST_SIDE)
    size = max(1, round(width / scale)), max(1, round(height / scale))
    return VideoFrame(number, time_s, frame, round(frame.rotation / 90) % 4, scale, size)


def read_through(path: str) -> None:
    """Reads a video to its end and drops it; for who wants to know whether that crashes."""
    with Video(path) as video:
        for frame in video.frames():
            frame.pixels()


def import_av() -> Any:
    """Imports PyAV.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError("What reads videos (PyAV)", EXTRA) from error
    return av


def why(error: Exception) -> str:
    """Gives an error's own words without the number and the file that FFmpeg puts around them."""
    return str(getattr(error, "strerror", None) or error).split("; last error log")[0][:120]


def _clock(text: str) -> float | None:
    """Reads ``00:01:30.500000000``."""
    parts = text.split(":")
    try:
        hours, minutes, seconds = (float(part) for part in parts)
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


@dataclass(frozen=True, slots=True)
class FrameSampling:
    """A distance between the pictures that are looked at: one of the two is given, and larger than 0.

    Args:
        seconds: Of the video's time; of each such stretch the first picture is taken.
        frames: Every so many pictures; 1 for all of them.
    """

    seconds: Fraction | None = None
    frames: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``0.5s`` as seconds, ``10f`` or ``10`` as pictures.

        Raises:
            UsageError: It is neither.
        """
        found = _VARIANT(text.strip())
        if found and found[2] and (seconds := Fraction(found[1])) > 0:
            return cls(seconds=seconds)
        if found and found[3] and int(found[3]) > 0:
            return cls(frames=int(found[3]))
        raise UsageError(f"--every {text!r} is no distance: give seconds (0.5s) or pictures (10f), more than 0")

    def stretch(self, number: int, time_s: Fraction) -> int:
        """Tells in which stretch of the video a picture lies; the first of each stretch is taken.

        Args:
            number: The picture's number, from 0.
            time_s: Its time since the start, exact, so that none is missed by rounding.
        """
        return number // self.frames if self.frames else int(time_s // (self.seconds or 1))
