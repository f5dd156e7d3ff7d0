from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_deploy.data.fer2013 import Partition
from fer_deploy.data.preview import draw_preview, save_image
from fer_deploy.errors import OutputError, UsageError

SHADES = (10, 40, 70, 100, 130, 160, 190)


@pytest.fixture
def partition() -> Partition:
    """Four plain pictures of every class but the last, each class in its own shade."""
    labels = np.repeat(np.arange(6), 4).astype(np.uint8)
    images = np.array([np.full((48, 48), SHADES[label], np.uint8) for label in labels])
    return Partition(images, labels, tuple(f"x{index}" for index in range(24)))


def test_a_row_per_class(partition: Partition) -> None:
    sheet = np.asarray(draw_preview(partition, "title", per_class=3))
    for row, shade in enumerate(SHADES[:6]):
        assert sheet[40 + row * 100 + 48, 120 + 2 * 100 + 48].tolist() == [shade] * 3
    assert sheet[40 + 6 * 100 + 48, 120 + 48].tolist() == [236] * 3  # no picture of the last class
    assert sheet.shape == (40 + 7 * 100 + 12, 120 + 3 * 100 + 12, 3)
    assert (sheet[:, :110] < 128).any()  # the labels


def test_more_than_there_are(partition: Partition) -> None:
    sheet = np.asarray(draw_preview(partition, "title", per_class=5))
    assert sheet[40 + 48, 120 + 3 * 100 + 48].tolist() == [10] * 3
    assert sheet[40 + 48, 120 + 4 * 100 + 48].tolist() == [236] * 3


def test_the_seed_chooses(partition: Partition) -> None:
    rng = np.random.default_rng(0)
    noise = Partition(rng.integers(0, 256, (24, 48, 48), np.uint8), partition.labels, partition.names)
    drawn = [draw_preview(noise, "x", per_class=2, seed=seed).tobytes() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("name", ["x.png", "x.JPG", "x.webp", "x.bmp"])
def test_saved_pictures_can_be_opened(name: str, tmp_path: Path, partition: Partition) -> None:
    for _ in range(2):  # the second replaces the first
        save_image(draw_preview(partition, "x", per_class=1), tmp_path / name)
    assert Image.open(tmp_path / name).size == (232, 752)
    assert len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_done(tmp_path: Path, partition: Partition) -> None:
    sheet = draw_preview(partition, "x", per_class=1)
    with pytest.raises(UsageError, match=r"x.txt does not name a picture: its name must end in .png, .jpg"):
        save_image(sheet, tmp_path / "x.txt")
    with pytest.raises(OutputError, match=r"x.png cannot be written: No such file or directory"):
        save_image(sheet, tmp_path / "no/x.png")
    with pytest.raises(UsageError, match="pictures per class is 0, expected 1 to 100"):
        draw_preview(partition, "x", per_class=0)
