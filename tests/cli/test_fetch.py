"""``fer-deploy fetch`` against a server of HTTP that does what servers do."""

from __future__ import annotations

import hashlib
import json
import re
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fer_deploy.cli import main
from fer_deploy.faces import catalogue

CONTENT = bytes(range(256)) * 90
Fetch = Callable[..., int]


class Server(BaseHTTPRequestHandler):
    """What it answers stands in the path; a proxy is asked for whole addresses, which end the same."""

    over = threading.Event()

    def do_GET(self) -> None:
        what = self.path.rpartition("/")[2]
        if what == "moved":
            self.send_response(302)
            self.send_header("Location", "/good")
            self.end_headers()
            return
        if what == "gone":
            self.send_error(404)
            return
        if what == "silent":
            self.over.wait(20)
            return
        body = {"other": CONTENT[::-1], "pointer": b"version https://git-lfs.github.com/spec/v1\n"}.get(what, CONTENT)
        body = body * 1000 if what == "endless" else body
        self.send_response(200)
        if what != "endless":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        half = what in ("stalls", "breaks")
        with suppress(ConnectionError):  # who asked has seen enough
            self.wfile.write(body[: len(body) // 2] if half else body)
        if what == "stalls":
            self.wfile.flush()
            self.over.wait(20)

    def log_message(self, *given: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def fetch(address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fetch:
    """Runs the command for a file of the server's own; gives the exit code."""
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    digest = hashlib.sha256(CONTENT).hexdigest()
    small = replace(catalogue.YUNET, url=f"{address}/good", size_bytes=len(CONTENT), sha256=digest)
    monkeypatch.setattr(catalogue, "FETCHED", {"yunet": small})

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["fer-deploy", "fetch", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


def kept() -> Path:
    return catalogue.FETCHED["yunet"].path


def test_the_real_entry_is_whole() -> None:
    entry = catalogue.YUNET
    assert entry.url.startswith("https://")
    assert (entry.file_name, len(entry.sha256), entry.licence) == ("face_detection_yunet_2026may.onnx", 64, "MIT")


def test_it_is_told_checked_and_put_in_place(
    fetch: Fetch, address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch() == 0
    assert "(not there yet)" in capsys.readouterr().out
    assert fetch("yunet") == 0
    reported = capsys.readouterr()
    path = tmp_path / "data/fer-deploy/detectors/good"
    for line in (f"from     {address}/good", "licence  MIT; 23,040 bytes", f"kept at  {path} (not there yet)"):
        assert line in reported.out
    assert reported.out.endswith("fetched; use it with: fer-deploy infer photos/ --detector yunet\n")
    assert reported.err == ""
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert fetch("yunet", "--url", f"{address}/gone") == 0  # it is there: nobody is asked
    assert "it is there already" in capsys.readouterr().out


def test_a_damaged_one_is_fetched_again(fetch: Fetch) -> None:
    kept().parent.mkdir(parents=True)
    kept().write_bytes(b"damaged")
    assert fetch("yunet") == 0
    assert kept().read_bytes() == CONTENT


def test_json_is_one_object(fetch: Fetch, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    for arguments in ((), ("yunet",), ("yunet",)):
        assert fetch(*arguments, "--json") == 0
        reported = json.loads(capsys.readouterr().out)
        assert reported["schema"] == 1
        rows += reported["rows"]
    assert [(row["is_there"], row.get("fetched")) for row in rows] == [(False, None), (True, True), (True, False)]
    assert {row["url"] for row in rows} == {f"{address}/good"}
    assert rows[0]["sha256"] == hashlib.sha256(CONTENT).hexdigest()


def test_a_mirror_and_another_place(fetch: Fetch, address: str, tmp_path: Path) -> None:
    assert fetch("yunet", "--url", f"{address}/moved", "--output", tmp_path / "new/mine.onnx") == 0
    assert (tmp_path / "new/mine.onnx").read_bytes() == CONTENT
    assert fetch("yunet", "--output", tmp_path) == 0
    assert (tmp_path / "good").read_bytes() == CONTENT
    assert not kept().exists()


def test_a_proxy_is_taken_from_the_environment(fetch: Fetch, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", address)
    assert fetch("yunet", "--url", "http://nobody.invalid/good") == 0
    assert kept().read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("gone", "refuses .*: 404 Not Found"),
        ("other", "is another file: it has the SHA-256 .*, and yunet has .*Nothing was written"),
        ("pointer", "is another file: it has 43 bytes, not 23,040"),
        ("endless", "is another file: it has [0-9,]* bytes, and yunet has 23,040"),
        ("breaks", "broke off after 11,520 of 23,040 bytes"),
        ("silent", "no answer within 0.3 s"),
        ("stalls", "no answer within 0.3 s"),
    ],
)
def test_what_goes_wrong_is_one_line(
    fetch: Fetch, address: str, capsys: pytest.CaptureFixture[str], what: str, reason: str
) -> None:
    timeout = 0.3 if "no answer" in reason else 20
    assert fetch("yunet", "--url", f"{address}/{what}", "--timeout", timeout) == 2
    error = capsys.readouterr().err
    assert error.startswith("fer-deploy: ")
    assert error.count("\n") == 1
    assert re.search(reason, error), error
    assert "--url takes another address" in error
    assert not kept().parent.exists()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1/x", "127.0.0.1:1 cannot be reached: Connection refused"),
        ("file:///etc/passwd", "must begin with https:// or http://"),
        ("yunet.onnx", "must begin with https:// or http://"),
        ("http://127.0.0.1:port/x", "nonnumeric port"),
    ],
)
def test_addresses_that_lead_nowhere(fetch: Fetch, capsys: pytest.CaptureFixture[str], url: str, reason: str) -> None:
    assert fetch("yunet", "--url", url) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


def test_places_that_cannot_be_written(fetch: Fetch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert fetch("yunet", "--output", tmp_path / "file/x.onnx") == 2
    assert "x.onnx cannot be written: File exists" in capsys.readouterr().err
    assert fetch("yunet", "--output", tmp_path / "file") == 2
    assert "file exists and is another file" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_disk_that_gets_full_leaves_nothing(fetch: Fetch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        assert fetch("yunet") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    error = capsys.readouterr().err
    assert "cannot be written: File too large" in error
    assert error.count("\n") == 1
    assert list(kept().parent.iterdir()) == []


def test_what_there_is_not(fetch: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch("resnet") == 2
    assert "nothing called 'resnet' to fetch; there is: yunet" in capsys.readouterr().err
    assert fetch("--output", "x.onnx") == 2
    assert "of one file: fer-deploy fetch yunet" in capsys.readouterr().err
