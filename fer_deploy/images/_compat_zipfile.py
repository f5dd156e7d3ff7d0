"""Unpacks bzip2 members of zips with a limit, which ``zipfile`` has for deflate only.

It reads the packed bytes as if they were stored, with fields of ``ZipInfo`` set to what ``zipfile`` takes for that.
"""

from __future__ import annotations

from bz2 import BZ2Decompressor
from copy import copy
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo
from zlib import crc32


def unpack_bzip2(archive: ZipFile, info: ZipInfo, max_packed_bytes: int) -> bytes:
    """Unpacks with a limit, which zipfile does not give this method: a hundred bytes of it can hold 100 MB."""
    packed = copy(info)
    packed.compress_type, packed.file_size = ZIP_STORED, min(info.compress_size, max_packed_bytes)
    packed.CRC = None  # type: ignore[assignment]  # that of what is packed is not known
    with archive.open(packed) as member:
        content = BZ2Decompressor().decompress(member.read(), info.file_size + 1)
    if len(content) != info.file_size or crc32(content) != info.CRC:
        raise BadZipFile(f"Bad CRC-32 or size for file {info.filename!r}")
    return content
