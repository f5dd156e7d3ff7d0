from __future__ import annotations

import math

import pytest

from fer_deploy.errors import UsageError
from fer_deploy.video.tracking import Smoothing


def test_numbers_computed_by_hand() -> None:
    smoothing = Smoothing(1.0)
    assert smoothing.add(0, 0.0, (1.0, 0.0)) == (1.0, 0.0)
    # 1 - exp(-0.5) = 0.3934693: 1 - 0.3934693 = 0.6065307
    assert smoothing.add(0, 0.5, (0.0, 1.0)) == pytest.approx((0.6065307, 0.3934693), abs=1e-7)
    # 1 - exp(-1) = 0.6321206: 0.6065307 * (1 - 0.6321206) = 0.2231302
    assert smoothing.add(0, 1.5, (0.0, 1.0)) == pytest.approx((0.2231302, 0.7768698), abs=1e-7)


def test_what_is_constant_stays_and_sums_stay_one() -> None:
    smoothing = Smoothing(2.0)
    for n in range(50):
        assert smoothing.add(3, n / 3, (0.25, 0.75)) == pytest.approx((0.25, 0.75))
    assert sum(smoothing.add(3, 20, (0.9, 0.1))) == pytest.approx(1)


def test_how_often_is_looked_does_not_matter() -> None:
    often, seldom = Smoothing(1.0), Smoothing(1.0)
    for n in range(11):
        last = often.add(0, n / 10, (1.0 if n else 0.0,))
    seldom.add(0, 0, (0.0,))
    assert last == pytest.approx(seldom.add(0, 1, (1.0,)))
    assert last[0] == pytest.approx(1 - math.exp(-1))


def test_tracks_do_not_mix_and_are_forgotten() -> None:
    smoothing = Smoothing(1.0)
    smoothing.add(0, 0, (1.0,))
    assert smoothing.add(1, 0.1, (0.0,)) == (0.0,)
    smoothing.keep({1})
    assert smoothing.add(0, 0.2, (0.5,)) == (0.5,)


def test_none_leaves_all_as_it_is() -> None:
    smoothing = Smoothing(0)
    smoothing.add(0, 0, (1.0, 0.0))
    assert smoothing.add(0, 0.1, (0.0, 1.0)) == (0.0, 1.0)


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
def test_what_is_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(UsageError, match="is no time"):
        Smoothing(seconds)
