"""Pictures in a zip archive, read where they lie: nothing is unpacked to disk."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import IO, Any, Final, Self
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, ZipFile, ZipInfo

from fer_deploy.errors import ImageError
from fer_deploy.images._compat_zipfile import unpack_bzip2
from fer_deploy.images.decode import decode
from fer_deploy.images.file_kinds import check_regular, why_skipped

ARCHIVE_SUFFIX: Final = ".zip"
MAX_MEMBER_BYTES: Final = 128 << 20
MAX_STREAMED_BYTES: Final = 4 << 30
"""Of what is unpacked as it is read."""
_BELOW_ARCHIVE: Final = re.compile(re.escape(ARCHIVE_SUFFIX + "/"), re.IGNORECASE | re.ASCII)
_PASSES: Final = 6
_PIECE: Final = 1 << 20
_SMALL_PIECE: Final = 4096
"""Packed bytes taken at a time of LZMA, of which zipfile unpacks all that it takes."""
_ENCRYPTED: Final = 1  # bit 0 of a member's flags


def inside_archive(name: str) -> tuple[str, str] | None:
    """Splits ``archive.zip/member.png``; None for what lies on disk by itself."""
    if os.path.lexists(name):
        return None
    for found in _BELOW_ARCHIVE.finditer(name):  # not in name.lower(), which may be longer than the name
        archive = name[: found.end() - 1]
        if os.path.isfile(archive):  # noqa: PTH113
            return archive, name[len(archive) + 1 :]
    return None


def members(
    path: str, skipped: Counter[str], read: Callable[[bytes], Any] = decode
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Lists an archive's files in the sorted order of their names.

    Args:
        path: The archive.
        skipped: Counts what is left out, by reason.
        read: Decodes an encoded picture; raises ImageError; safe in any thread.

    Yields:
        A member's name, and what gives ``read`` its content. The archive stays open as long as one of these is kept.

    Raises:
        ImageError: It cannot be opened, or is no zip archive.
    """
    check_regular(path)
    try:
        archive = ZipFile(path)
    except Exception as error:  # damaged tables of contents raise more than BadZipFile
        raise ImageError(f"not a readable zip archive ({error})") from error
    for info in sorted(archive.infolist(), key=lambda info: info.filename):
        if info.filename.endswith("/"):  # not is_dir(), which fails on a damaged table's empty names
            continue
        *folders, name = info.filename.split("/")
        reason = next(filter(None, (why_skipped(folder, is_folder=True) for folder in folders)), None) or why_skipped(
            name
        )
        if reason:
            skipped[reason] += 1
        else:
            yield info.filename, partial(_decode_member, archive, info, read)


def _decode_member(archive: ZipFile, info: ZipInfo, read: Callable[[bytes], Any]) -> Any:
    if info.flag_bits & _ENCRYPTED:
        raise ImageError("encrypted in the archive")
    if info.file_size > MAX_MEMBER_BYTES:
        raise ImageError(f"too large: {info.file_size} bytes, the limit in an archive is {MAX_MEMBER_BYTES}")
    try:
        content = unpack(archive, info)
    except Exception as error:  # an unknown compression, a wrong checksum, a broken stream: each a type of its own
        raise ImageError(f"damaged in the archive ({type(error).__name__}: {str(error)[:120]})") from error
    return read(content)


def unpack(archive: ZipFile, info: ZipInfo) -> bytes:
    """Reads a member, never more than it says to hold: ``ZipFile.read`` unpacks it all before it looks at that.

    Args:
        archive: An open one.
        info: One of its members.

    Raises:
        Exception: Whatever zipfile and the decompressors raise on damaged data.
    """
    if info.compress_type == ZIP_BZIP2:
        return unpack_bzip2(archive, info, MAX_MEMBER_BYTES)
    step = _SMALL_PIECE if info.compress_type == ZIP_LZMA else _PIECE
    with archive.open(info) as member:
        return b"".join(iter(partial(member.read, step), b""))


def open_member(archive: str, member: str) -> Member:
    """Opens a member that is too large to be read at once, such as a video.

    Raises:
        ImageError: It is not there, or cannot be read so.
    """
    try:
        opened = ZipFile(archive)
        info = opened.getinfo(member)
    except Exception as error:  # as in ``members``
        raise ImageError(f"not in a readable zip archive ({error})") from error
    if info.flag_bits & _ENCRYPTED:
        raise ImageError("encrypted in the archive")
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ImageError("packed in a way in which it cannot be read inside the archive: unpack it, and give the file")
    if info.file_size > MAX_STREAMED_BYTES:
        raise ImageError(
            f"too large: {info.file_size} bytes, the limit of a video in an archive is {MAX_STREAMED_BYTES}: "
            "unpack it, and give the file"
        )
    return Member(opened, info)


class Member:
    """A member that is unpacked as it is read, in memory that does not grow with its size.

    To go back is to unpack it again from its start, which players do once or twice; more than some times is refused.

    Args:
        archive: An open one, which is closed with it.
        info: The member.
    """

    def __init__(self, archive: ZipFile, info: ZipInfo) -> None:
        self._archive, self._info = archive, info
        self._left = _PASSES * info.file_size + MAX_MEMBER_BYTES
        self._place = 0
        with self._explained():
            self._file: IO[bytes] = archive.open(info)

    def read(self, size: int = -1) -> bytes:
        """Reads up to ``size`` bytes.

        Raises:
            OSError: It is damaged, or was gone back in too often.
        """
        with self._explained():
            self._go()
            content = self._file.read(min(size, _PIECE) if size >= 0 else _PIECE)
        self._spend(len(content))
        self._place += len(content)
        return content

    def _go(self) -> None:
        """Unpacks up to the place that was sought."""
        if self._place < self._file.tell():
            self._spend(self._place)
        elif self._place > self._file.tell():
            self._spend(self._place - self._file.tell())
        self._file.seek(self._place)

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise OSError("its parts lie too far apart to be read inside the archive: unpack it, and give the file")

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to a place; nothing is unpacked before something is read there."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._info.file_size}[whence]
        self._place = max(0, min(start + offset, self._info.file_size))
        return self._place

    def tell(self) -> int:
        """Gives the place."""
        return self._place

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            raise
        except Exception as error:  # as in ``_decode_member``
            raise OSError(f"damaged in the archive ({type(error).__name__}: {str(error)[:120]})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._archive.close()
