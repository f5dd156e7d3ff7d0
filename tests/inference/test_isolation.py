"""A decoder that really dies (SIGSEGV, SIGABRT), in runs of the real command."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_deploy.bundle.manifest import Bundle
from fer_deploy.images.sources import Sources
from fer_deploy.inference.isolation import CrashGuard

ROOT = Path(__file__).parents[2]
PROGRAM = """
import ctypes, os, time
import fer_deploy.images.decode as decode

sound = decode._decode

def fragile(file, *arguments):
    start = file.read(8)
    file.seek(0)
    if start == b"SEGFAULT":
        ctypes.string_at(0)
    if start == b"ABORTING":
        os.abort()
    if start == b"WAITING ":
        time.sleep(60)
    return sound(file, *arguments)

decode._decode = fragile
from fer_deploy.cli import main
main()
"""


def draw(folder: Path, count: int) -> None:
    folder.mkdir()
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (48, 48), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:04}.png")


def command(bundle: Bundle, *arguments: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", PROGRAM, "infer", "--bundle", str(bundle.path), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_decoder_that_dies_takes_its_row(tmp_path: Path, tiny_bundle: Bundle, suffix: str) -> None:
    draw(tmp_path / "photos", 300)
    (tmp_path / "photos/0100.png").write_bytes(b"SEGFAULT and more")
    (tmp_path / "photos/0101.png").write_bytes(b"ABORTING and more")
    (tmp_path / "photos/0250.png").write_bytes(b"SEGFAULT and more")
    output = tmp_path / f"x.{suffix}"
    run = command(tiny_bundle, tmp_path / "photos", "--output", output)
    _, said = run.communicate(timeout=120)
    assert run.returncode == 0, said
    assert "297 pictures" in said
    assert "the decoder crashed (SIGSEGV)" in said
    if suffix == "csv":
        found = rows(output)
        assert [Path(row["path"]).name for row in found] == [f"{index:04}.png" for index in range(300)]
        failed = {Path(row["path"]).name: row["reason"] for row in found if row["status"] == "error"}
        segfault, abort = (f"the decoder crashed ({name})" for name in ("SIGSEGV", "SIGABRT"))
        assert failed == {"0100.png": segfault, "0101.png": abort, "0250.png": segfault}
    else:
        assert len(output.read_text().splitlines()) == 300
    assert not Path(f"{output}.resume.json").exists()


def test_a_kill_of_the_command_ends_its_run(tmp_path: Path, tiny_bundle: Bundle) -> None:
    draw(tmp_path / "photos", 3)
    (tmp_path / "photos/0001.png").write_bytes(b"WAITING until the end")
    run = command(tiny_bundle, tmp_path / "photos", "--output", tmp_path / "x.csv")
    resume_state = tmp_path / "x.csv.resume.json"
    until = time.monotonic() + 60
    while not resume_state.exists() and time.monotonic() < until:
        time.sleep(0.01)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    assert len(children) == 1
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=60)
    until = time.monotonic() + 10
    while Path(f"/proc/{children[0]}").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not Path(f"/proc/{children[0]}").exists()


def test_a_termination_reaches_the_run(tmp_path: Path, tiny_bundle: Bundle) -> None:
    draw(tmp_path / "photos", 3)
    (tmp_path / "photos/0001.png").write_bytes(b"WAITING until the end")
    run = command(tiny_bundle, tmp_path / "photos", "--output", tmp_path / "x.csv")
    until = time.monotonic() + 60
    while not (tmp_path / "x.csv.resume.json").exists() and time.monotonic() < until:
        time.sleep(0.01)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM


def test_names_are_noted_while_they_are_read(tmp_path: Path) -> None:
    draw(tmp_path / "photos", 2)
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / "photos/0000.png").rename(tmp_path / "photos" / name)
    watch = CrashGuard()
    odd = next(source for source in Sources([tmp_path]) if source.name.endswith(name))
    seen = []

    def read() -> object:
        seen.extend(watch.take_unfinished())
        return odd.read()

    (watched,) = watch.watched([type(odd)(odd.name, read)])
    watched.read()
    assert seen == [odd.name]
    assert watch.take_unfinished() == []
