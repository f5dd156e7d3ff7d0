"""Downloads a file that a user asked for: bounded, checked before it is anywhere, and put in place whole.

With Python's own client, which takes proxies from the usual variables (``https_proxy``, ``no_proxy``) and checks
certificates.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fer_deploy import __version__
from fer_deploy.errors import DownloadError, OutputError, one_line
from fer_deploy.system.files import written_whole

TIMEOUT_S: Final = 30.0
"""How long a server may say nothing."""
_CHUNK: Final = 1 << 14
_SCHEMES: Final = ("https", "http")


def download(
    url: str,
    size_bytes: int,
    fault: Callable[[bytes], str],
    target: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Downloads a file.

    Args:
        url: Where it is; ``https`` or ``http``.
        size_bytes: How long it must be; what is longer is not read to its end.
        fault: Tells what is wrong with a content, or nothing.
        target: Where it goes; what is there is replaced once the new file is whole and right.
        progress: Called with the bytes that are here and all bytes.
        timeout_s: How long the server may say nothing.

    Raises:
        DownloadError: It cannot be had, or is another file.
        OutputError: It cannot be written.
    """
    content = _get(url, size_bytes, progress, timeout_s)
    if wrong := fault(content):
        raise DownloadError(f"{url} is another file: it {wrong}. Nothing was written")
    _make_folder(target)
    with written_whole(target) as partial:
        partial.write_bytes(content)


def _make_folder(target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error


def _get(url: str, size_bytes: int, progress: Callable[[int, int], None], timeout_s: float) -> bytes:
    host = urlsplit(url).netloc
    if urlsplit(url).scheme not in _SCHEMES or not host:
        raise DownloadError(f"{url} is no address of a file: it must begin with https:// or http://")
    request = urllib.request.Request(url, headers={"User-Agent": f"fer-deploy/{__version__}"})
    opener = urllib.request.build_opener()  # urlopen's own keeps the proxies of its first use
    try:
        with closing(opener.open(request, timeout=timeout_s)) as response:
            said = response.headers.get("Content-Length")
            if said is not None and said.isdecimal() and int(said) != size_bytes:
                raise DownloadError(f"{url} is another file: it has {int(said):,} bytes, not {size_bytes:,}")
            content = _read(response, size_bytes, progress)
    except urllib.error.HTTPError as error:
        raise DownloadError(f"{host} refuses {url}: {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise DownloadError(f"{host} cannot be reached: {_reason(error.reason, timeout_s)}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadError(f"{host} broke off: {_reason(error, timeout_s)}") from error
    if len(content) < size_bytes:
        raise DownloadError(f"{host} broke off after {len(content):,} of {size_bytes:,} bytes of {url}; try again")
    return content


def _read(response: http.client.HTTPResponse, size_bytes: int, progress: Callable[[int, int], None]) -> bytes:
    content = bytearray()
    while len(content) <= size_bytes and (chunk := response.read1(_CHUNK)):
        content += chunk
        progress(len(content), size_bytes)
    return bytes(content)


def _reason(error: object, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    return one_line(getattr(error, "strerror", None) or error or type(error).__name__)
