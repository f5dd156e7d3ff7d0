"""Pictures in a zip archive, read where they lie: nothing is unpacked to disk."""

from __future__ import annotations

from bz2 import BZ2Decompressor
from collections import Counter
from collections.abc import Callable, Iterator
from copy import copy
from functools import partial
from typing import Any, Final
from zipfile import ZIP_BZIP2, ZIP_LZMA, ZIP_STORED, BadZipFile, ZipFile, ZipInfo
from zlib import crc32

from fer_deploy.errors import ImageError
from fer_deploy.images.decode import decode
from fer_deploy.images.files import check_regular, left_out

ARCHIVE_SUFFIX: Final = ".zip"
MAX_MEMBER_BYTES: Final = 128 << 20
_PIECE: Final = 1 << 20
_SMALL_PIECE: Final = 4096
"""Packed bytes taken at a time of LZMA, of which zipfile unpacks all that it takes."""
_ENCRYPTED: Final = 1  # bit 0 of a member's flags


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
        reason = next(filter(None, (left_out(folder, is_folder=True) for folder in folders)), None) or left_out(name)
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
        return _unpack_bzip2(archive, info)
    step = _SMALL_PIECE if info.compress_type == ZIP_LZMA else _PIECE
    with archive.open(info) as member:
        return b"".join(iter(partial(member.read, step), b""))


def _unpack_bzip2(archive: ZipFile, info: ZipInfo) -> bytes:
    """Unpacks with a limit, which zipfile does not give this method: a hundred bytes of it can hold 100 MB."""
    packed = copy(info)
    packed.compress_type, packed.file_size = ZIP_STORED, min(info.compress_size, MAX_MEMBER_BYTES)
    packed.CRC = None  # type: ignore[assignment]  # that of what is packed is not known
    with archive.open(packed) as member:
        content = BZ2Decompressor().decompress(member.read(), info.file_size + 1)
    if len(content) != info.file_size or crc32(content) != info.CRC:
        raise BadZipFile(f"Bad CRC-32 or size for file {info.filename!r}")
    return content
