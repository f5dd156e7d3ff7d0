"""Pictures in a zip archive, read where they lie: nothing is unpacked to disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final
from zipfile import ZipFile, ZipInfo

from fer_deploy.errors import ImageError
from fer_deploy.images.decode import decode
from fer_deploy.images.files import check_regular, left_out

ARCHIVE_SUFFIX: Final = ".zip"
MAX_MEMBER_BYTES: Final = 128 << 20
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
        if info.is_dir():
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
        content = archive.read(info)  # never more than file_size, whatever lies there
    except Exception as error:  # an unknown compression, a wrong checksum, a broken stream: each a type of its own
        raise ImageError(f"damaged in the archive ({type(error).__name__}: {str(error)[:120]})") from error
    return read(content)
