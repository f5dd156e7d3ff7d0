"""``benchmarks/faces_speed.py`` in a short form, with networks that are built on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import faces_speed
import numpy as np
import pytest
from faces_int8 import quantised
from faces_speed import OneLook, draw, measure, table, ways_of
from pasting import Pasted
from PIL import Image

from fer_deploy.backends.openvino import OpenVinoBackend
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.data.probe import probe_images
from fer_deploy.faces.catalogue import choose
from fer_deploy.faces.detector import TwoStageDetector
from fer_deploy.faces.networks import YuNet


def test_photos_are_drawn_with_so_many_faces(tmp_path: Path) -> None:
    drawn = draw(tmp_path / "photos", probe_images()[:2, ..., 0], 1)
    assert [(path.name, len(pasted)) for path, pasted in drawn] == [("0000.jpg", 1), ("0001.jpg", 1)]
    assert all(faces_speed.whole(path).pixels.shape == (960, 1280, 3) for path, _ in drawn)


def test_the_ways_take_turns_and_each_is_told(
    yellow_grids: Callable[..., bytes], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "grids.onnx").write_bytes(yellow_grids(alive=32))
    ways = ways_of(choose(tmp_path / "grids.onnx"), [])
    assert list(ways) == ["as infer", "from 40 pixels", "from 80 pixels", "one look"]
    (tmp_path / "photos").mkdir()
    drawn = []
    for number, place in enumerate([(32, 64), (96, 160)]):
        image = np.zeros((192, 256, 3), np.uint8)
        image[place[0] : place[0] + 32, place[1] : place[1] + 32] = (255, 255, 0)
        path = tmp_path / f"photos/{number}.jpg"
        Image.fromarray(image).save(path, quality=95)
        drawn.append((path, [Pasted(0, place[1] + 8, place[0] + 16, 24, 0)]))
    some = {name: ways[name] for name in ("as infer", "one look")}
    with OpenVinoBackend(tiny_bundle, "fp32") as backend:
        usual, one = measure(drawn, some, backend, 2, 1)
    assert len((tmp_path / "photos.csv").read_text(encoding="utf-8").splitlines()) == 1 + 2
    for row in (usual, one):
        assert [sample["n"] for sample in row["samples"]] == [2, 2]
        assert row["photos_per_s"] > 0
        assert row["found"] == 1
    assert usual["over_first"] == {"median": 1, "min": 1, "max": 1}
    assert (list(usual["stages_ms"]), one["stages_ms"]) == (list(faces_speed.STAGES), {})
    assert all(value > 0 for value in usual["stages_ms"].values())
    assert "| as infer | 1 |" in table([usual, one])


def test_one_look_finds_what_is_yellow(yellow_grids: Callable[..., bytes]) -> None:
    image = np.zeros((128, 128, 3), np.uint8)
    image[64:96, 32:64] = (255, 255, 0)
    assert OneLook(YuNet(yellow_grids(alive=32))).detect(image)[0].box == pytest.approx((32, 68, 16, 24), abs=1)


def test_eight_bits_find_the_same(yellow_grids: Callable[..., bytes]) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'fer-deploy[onnx]'")
    photos = list(np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8))
    photos[0][:32] = 255
    image = np.zeros((256, 256, 3), np.uint8)
    image[128:160, 96:128] = (255, 255, 0)
    before = yellow_grids(alive=32)
    after = quantised(before, photos, blue_first=True)
    assert b"QuantizeLinear" in after
    boxes = [TwoStageDetector(YuNet(content)).detect(image)[0].box for content in (before, after)]
    assert boxes[0] == pytest.approx(boxes[1], abs=3)
