"""From an encoded picture to what the network takes: a face of 48x48, a photo, a big photo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fer_deploy.images.decode import decode


def test_png_48(benchmark: Any, crop: bytes) -> None:
    assert benchmark(decode, crop).shape == (48, 48, 1)


def test_jpeg_640x480(benchmark: Any, photo: Callable[[int, int], bytes]) -> None:
    assert benchmark(decode, photo(640, 480)).shape == (48, 48, 1)


def test_jpeg_24_megapixels(benchmark: Any, photo: Callable[[int, int], bytes]) -> None:
    assert benchmark(decode, photo(6000, 4000)).shape == (48, 48, 1)
