"""``fer-deploy infer`` as users run it: in a process of its own."""

from __future__ import annotations

import csv
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_deploy.backends.select import open_backend
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.inference.prediction import COLUMNS
from fer_deploy.labels import LABELS


class Command:
    """Runs ``fer-deploy infer`` with the tiny bundle and a cache of its own."""

    def __init__(self, bundle: Bundle, cache: Path) -> None:
        self.line = [sys.executable, "-m", "fer_deploy", "infer", "--bundle", str(bundle.path)]
        self.env = os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(Path(__file__).parents[2])}

    def __call__(self, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        line = [*self.line, *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, env=self.env, cwd=cwd, timeout=120, check=False)


@pytest.fixture(scope="module")
def infer(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Command:
    return Command(tiny_bundle, tmp_path_factory.mktemp("cache"))


def save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(6):
        save(tmp_path / "faces" / f"{index}.png", index)
    return tmp_path / "faces"


def parse(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def add_bad_files(folder: Path) -> set[str]:
    """Puts twelve files, each bad in its own way, among the good ones; returns their names."""
    save(folder / "good.png", 0)
    good = (folder / "good.png").read_bytes()
    (folder / "good.png").unlink()
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    bomb = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (folder / "a/000-empty.png").write_bytes(b"")
    (folder / "a/001-truncated.png").write_bytes(good[: len(good) // 2])
    (folder / "a/002-text.png").write_text("not a picture")
    (folder / "a/003-bomb.png").write_bytes(good[:8] + bomb + good[33:])
    (folder / "a/004-noise.jpg").write_bytes(b"\xff\xd8\xff\xe0" + os.urandom(2000))
    (folder / "a/005-broken-link.png").symlink_to("nowhere.png")
    (folder / "a/006-loop.png").symlink_to("006-loop.png")
    os.mkfifo(folder / "a/007-pipe.png")
    (folder / "a/008-video.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500))
    (folder / "a/009-notes.txt").write_text("the 9th")
    (folder / "a/010-checksum.png").write_bytes(good[:60] + bytes([good[60] ^ 255]) + good[61:])
    Image.new("F", (48, 48)).save(folder / "a/011-float.tiff")
    return {path.name for path in (folder / "a").iterdir() if path.name[:3] < "012" and path.name[3] == "-"}


def test_a_thousand_good_and_twelve_bad_files(infer: Command, tiny_bundle: Bundle, tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    for index in range(1000):
        save(faces / f"{'ab'[index % 2]}/{index:04}.png", index)
    bad = add_bad_files(faces)
    assert len(bad) == 12
    done = infer(faces, "--output", tmp_path / "x.csv")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "1,000 pictures in" in done.stderr
    assert "12 failed:" in done.stderr

    rows = parse((tmp_path / "x.csv").read_text())
    assert Counter(row["status"] for row in rows) == {"ok": 1000, "error": 12}
    assert {Path(row["path"]).name for row in rows if row["status"] == "error"} == bad
    assert all(row["reason"] and not row["emotion"] for row in rows if row["status"] == "error")
    assert len({row["reason"] for row in rows if row["status"] == "error"}) >= 9
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)

    good = [row for row in rows if row["status"] == "ok"]
    pixels = np.stack([np.asarray(Image.open(row["path"]))[..., None] for row in good])
    with open_backend(tiny_bundle, "onnx") as backend:
        expected = backend.run(pixels)
    np.testing.assert_allclose([[float(row[label]) for label in LABELS] for row in good], expected, atol=1e-5)

    strict = infer(faces, "--output", tmp_path / "x.csv", "--overwrite", "--strict", "--quiet")
    assert (strict.returncode, strict.stderr) == (1, "")
    assert len(parse((tmp_path / "x.csv").read_text())) == 1012


def test_into_a_pipe_goes_nothing_but_csv(infer: Command, folder: Path) -> None:
    for arguments in ([folder], [folder, "--output", "-"]):
        done = infer(*arguments)
        assert done.returncode == 0
        assert done.stdout.splitlines()[0] == ",".join(COLUMNS)
        assert [row["path"] for row in parse(done.stdout)] == [f"{folder}/{index}.png" for index in range(6)]
        assert "6 pictures in" in done.stderr
        assert "OpenVINO" in done.stderr


def test_json(infer: Command, folder: Path) -> None:
    (folder / "bad.png").touch()
    (folder / "labels.csv").touch()
    done = infer(folder, "gone.png", "--json")
    assert done.returncode == 0
    reported = json.loads(done.stdout)
    assert list(reported) == ["schema", "machine", "rows", "summary"]
    assert reported["schema"] == 1
    assert reported["machine"]["cpu_class"]
    assert [row["status"] for row in reported["rows"]] == ["ok"] * 6 + ["error"] * 2
    assert tuple(reported["rows"][0]) == COLUMNS
    summary = reported["summary"]
    assert (summary["n"], summary["failed"], summary["skipped"]) == (6, 2, {"sidecars": 1})
    assert sum(summary["emotions"].values()) == 6
    assert (summary["backend"], summary["precision"], summary["effective"], summary["device"]) == (
        *("openvino", "fp32", "fp32"),
        "cpu",
    )
    assert summary["images_per_s"] > 0


@pytest.mark.parametrize("backend", ["onnx", "keras"])
def test_other_backends_say_the_same(infer: Command, folder: Path, backend: str) -> None:
    ours, theirs = infer(folder), infer(folder, "--backend", backend, "--batch", 4)
    assert theirs.returncode == 0, theirs.stderr
    for one, other in zip(parse(ours.stdout), parse(theirs.stdout), strict=True):
        assert (one["path"], one["emotion"]) == (other["path"], other["emotion"])
        assert float(one["confidence"]) == pytest.approx(float(other["confidence"]), abs=1e-5)


def test_every_kind_of_path_at_once(infer: Command, folder: Path) -> None:
    with zipfile.ZipFile(folder.parent / "more.zip", "w") as archive:
        archive.write(folder / "1.png", "one.png")
    done = infer("faces/5.png", "faces/[01].png", "more.zip", "faces", cwd=folder.parent)
    paths = [row["path"] for row in parse(done.stdout)]
    assert paths[:4] == ["faces/5.png", "faces/0.png", "faces/1.png", "more.zip/one.png"]
    assert paths[4:] == [f"faces/{index}.png" for index in range(6)]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_other_formats(infer: Command, folder: Path, suffix: str) -> None:
    output = folder / f"x.{suffix}"
    for extra in ([], ["--overwrite"]):
        assert infer(folder, "--output", output, *extra).returncode == 0
    if suffix == "jsonl":
        assert len(output.read_text().splitlines()) == 6
    else:
        assert len(pytest.importorskip("pyarrow.parquet").read_table(output)) == 6


def test_a_bad_picture_alone(infer: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.png").touch()
    assert infer(tmp_path / "bad.png").returncode == 0
    assert infer(tmp_path / "bad.png", "--strict").returncode == 1


def refused(done: subprocess.CompletedProcess[str], reason: str) -> None:
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_requests_that_cannot_be_carried_out(infer: Command, folder: Path, tmp_path: Path) -> None:
    refused(infer("gone.png"), "no picture found in: gone.png")
    (tmp_path / "none").mkdir()
    (tmp_path / "none/notes.md").touch()
    refused(infer(tmp_path / "none", "--quiet"), "none, 1 sidecars left out")
    refused(infer(folder, "--backend", "tflite"), "There is no backend 'tflite'; there are: keras, onnx, openvino")
    refused(infer(folder, "--precision", "int8"), "no onnx model in int8")
    refused(infer(folder, "--backend", "openvino", "--device", "cuda"), "has no device cuda")
    refused(infer(folder, "--bundle", tmp_path), "is not a bundle")
    refused(infer(folder, "--output", "x.xlsx"), "must end in .csv, .jsonl or .parquet")
    refused(infer(folder, "--output", tmp_path / "gone/x.csv"), "there is no folder")
    refused(infer(folder, "--json", "--output", "-"), "both write to standard output")
    refused(infer(folder, "--batch", 0), "--batch")
    (tmp_path / "mine.csv").write_text("mine")
    refused(infer(folder, "--output", tmp_path / "mine.csv"), "exists already")
    assert (tmp_path / "mine.csv").read_text() == "mine"


def test_a_reader_that_has_seen_enough(infer: Command, folder: Path) -> None:
    for index in range(3000):
        (folder / f"{index:05}.txt").touch()
    command = subprocess.Popen(
        [*infer.line, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=infer.env
    )
    assert command.stdout is not None
    assert command.stderr is not None
    assert command.stdout.readline().startswith("path,")
    command.stdout.close()
    said = command.stderr.read()
    command.stderr.close()
    assert command.wait(60) == 0
    assert "Traceback" not in said
    assert "Error" not in said


def test_an_interrupt_leaves_a_valid_table(infer: Command, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    save(tmp_path / "face.png", 0)
    for index in range(30_000):
        (tmp_path / f"faces/{index:05}.png").hardlink_to(tmp_path / "face.png")
    output = tmp_path / "x.csv"
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs, and inherited
    command = subprocess.Popen(
        [*infer.line, str(tmp_path / "faces"), "--output", str(output)],
        stderr=subprocess.PIPE,
        text=True,
        env=infer.env,
    )
    until = time.monotonic() + 60
    while (not output.exists() or output.stat().st_size < 10_000) and time.monotonic() < until:
        time.sleep(0.01)
    command.send_signal(signal.SIGINT)
    _, said = command.communicate(timeout=60)
    assert command.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    rows = parse(output.read_text())
    assert 0 < len(rows) < 30_000
    assert [Path(row["path"]).name for row in rows] == [f"{index:05}.png" for index in range(len(rows))]
    assert {row["status"] for row in rows} == {"ok"}


def test_on_a_terminal(infer: Command, folder: Path) -> None:
    """A table on stdout, with the rest of many rows counted, and colour codes nowhere but there."""
    for index in range(60):
        save(folder / f"more/{index}.png", index)
    (folder / "0.png").write_text("no picture")
    command = " ".join([*infer.line, str(folder)])
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"], capture_output=True, text=True, env=infer.env | {"COLUMNS": "200"},
        check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "confidence" in done.stdout
    assert "not an image of a known format" in done.stdout
    assert "and 16 more; all rows: --output emotions.csv" in done.stdout
    assert "65 pictures in" in done.stdout


def test_what_one_picture_imports(infer: Command, folder: Path) -> None:
    program = """
import sys
from fer_deploy.cli import app
app(sys.argv[1:], standalone_mode=False)
heavy = {"tensorflow", "keras", "onnxruntime", "onnx", "pyarrow", "torch", "cv2", "rich.table", "glob2"}
print(*sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    line = [sys.executable, "-c", program, *infer.line[3:], str(folder / "0.png"), "--quiet"]
    done = subprocess.run(line, capture_output=True, text=True, env=infer.env, check=True)
    assert done.stderr == "\n"


def test_help_shows_examples_and_imports_no_numpy(infer: Command) -> None:
    done = infer("--help")
    assert done.returncode == 0
    assert "--output emotions.csv" in done.stdout
    program = """
import sys
from fer_deploy.cli import app
app(["infer", "--help"], standalone_mode=False)
print(*sorted({"numpy", "PIL", "openvino"} & set(sys.modules)), file=sys.stderr)
"""
    line = [sys.executable, "-c", program]
    assert subprocess.run(line, capture_output=True, text=True, env=infer.env, check=True).stderr == "\n"


@pytest.mark.fer2013
def test_a_part_of_the_real_data(infer: Command, fer2013_path: Path, tmp_path: Path) -> None:
    if fer2013_path.suffix != ".zip":
        pytest.skip("needs FER-2013 as a zip of pictures")
    with zipfile.ZipFile(fer2013_path) as whole, zipfile.ZipFile(tmp_path / "part.zip", "w") as part:
        for name in [name for name in whole.namelist() if name.lower().endswith((".png", ".jpg"))][::100]:
            part.writestr(name, whole.read(name))
    rows = parse(infer(tmp_path / "part.zip").stdout)
    assert len(rows) > 300
    assert {row["status"] for row in rows} == {"ok"}
