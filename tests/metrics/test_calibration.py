"""Calibration error by hand, and temperatures that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_deploy.errors import UsageError
from fer_deploy.metrics.calibration import draw_reliability, fit_temperature, reliability, with_temperature

N = 40_000


@pytest.fixture(scope="module")
def honest() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels drawn with just these probabilities."""
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 2, (N, 7))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (probabilities.cumsum(axis=1) < rng.random((N, 1))).sum(axis=1)
    return probabilities.astype(np.float32), np.minimum(labels, 6).astype(np.uint8)


def test_error_by_hand() -> None:
    """Ten of fifteen bins wide: 0.9 (three of four right) lies in the 14th, 0.4 (one of two) on the edge of the 6th."""
    sure, unsure = [0.9, *[0.1 / 6] * 6], [0.4, *[0.1] * 6]
    probabilities = np.array([sure] * 4 + [unsure] * 2)
    found = reliability(probabilities, np.array([0, 0, 0, 1, 0, 2], np.uint8))
    assert found.ece == pytest.approx((4 * abs(0.9 - 0.75) + 2 * abs(0.4 - 0.5)) / 6)
    assert found.nll == pytest.approx(-(3 * np.log(0.9) + np.log(0.1 / 6) + np.log(0.4) + np.log(0.1)) / 6)
    assert (found.accuracy, found.confidence) == (pytest.approx(4 / 6), pytest.approx(4.4 / 6))
    assert [place for place, each in enumerate(found.bins) if each.n] == [5, 13]


def test_honest_probabilities_have_hardly_an_error(honest: tuple[np.ndarray, np.ndarray]) -> None:
    assert reliability(*honest).ece < 0.01


def test_sure_of_all_is_wrong_by_the_share_of_wrong_answers(honest: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = honest
    sure = np.eye(7)[probabilities.argmax(axis=1)]
    assert reliability(sure, labels).ece == pytest.approx((probabilities.argmax(axis=1) != labels).mean())


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found_and_mends_the_error(
    temperature: float, honest: tuple[np.ndarray, np.ndarray]
) -> None:
    probabilities, labels = honest
    spoilt = with_temperature(probabilities, 1 / temperature)  # logits times the temperature
    assert fit_temperature(spoilt, labels) == pytest.approx(temperature, rel=0.02)
    mended = with_temperature(spoilt, fit_temperature(spoilt, labels))
    assert reliability(mended, labels).ece < 0.01
    assert reliability(mended, labels).nll <= reliability(spoilt, labels).nll
    assert (mended.argmax(axis=1) == probabilities.argmax(axis=1)).all()


def test_tempering_is_undone_by_the_inverse(honest: tuple[np.ndarray, np.ndarray]) -> None:
    assert np.abs(with_temperature(with_temperature(honest[0], 2.5), 0.4) - honest[0]).max() < 1e-6


def test_probabilities_of_zero_are_borne() -> None:
    probabilities = np.eye(7)[[0, 1, 2]] * 1.0
    assert np.isfinite(reliability(probabilities, np.array([0, 1, 3], np.uint8)).nll)
    assert np.isfinite(with_temperature(probabilities, 2)).all()


@pytest.mark.parametrize("right", [True, False])
def test_no_temperature_fits_answers_that_are_all_right_or_all_wrong(right: bool) -> None:
    labels = np.arange(7, dtype=np.uint8)
    probabilities = np.full((7, 7), 0.1) + 0.3 * np.eye(7)[labels if right else (labels + 1) % 7]
    with pytest.raises(UsageError, match="No temperature"):
        fit_temperature(probabilities, labels)


def test_the_diagram_is_a_picture(tmp_path: Path, honest: tuple[np.ndarray, np.ndarray]) -> None:
    pytest.importorskip("matplotlib")
    draw_reliability({"now": reliability(*honest)}, "drawn", tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.width > 400
