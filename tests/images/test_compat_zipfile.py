from __future__ import annotations

import io
from zipfile import ZIP_BZIP2, BadZipFile, ZipFile

import pytest

from fer_deploy.images._compat_zipfile import unpack_bzip2

CONTENT = bytes(range(256)) * 400
LIMIT = 1 << 20


def archive(content: bytes = CONTENT) -> ZipFile:
    file = io.BytesIO()
    with ZipFile(file, "w", ZIP_BZIP2) as written:
        written.writestr("x.png", content)
    return ZipFile(file)


def test_zipfile_still_reads_packed_bytes_as_if_they_were_stored() -> None:
    with archive() as opened:
        assert unpack_bzip2(opened, opened.infolist()[0], LIMIT) == CONTENT
        assert opened.read("x.png") == CONTENT  # the archive's own entry is unchanged


def test_a_member_that_holds_more_than_it_says_is_damaged() -> None:
    with archive(bytes(10 << 20)) as opened:
        info = opened.infolist()[0]
        info.file_size = 1000
        with pytest.raises(BadZipFile):
            unpack_bzip2(opened, info, LIMIT)
