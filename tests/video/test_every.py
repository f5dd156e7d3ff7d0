from __future__ import annotations

from fractions import Fraction

import pytest

from fer_deploy.errors import UsageError
from fer_deploy.video.reader import FrameSampling


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5s", FrameSampling(seconds=Fraction(1, 2))),
        (" 2s ", FrameSampling(seconds=Fraction(2))),
        (".1s", FrameSampling(seconds=Fraction(1, 10))),
        ("10f", FrameSampling(frames=10)),
        ("1", FrameSampling(frames=1)),
    ],
)
def test_seconds_and_pictures(text: str, expected: FrameSampling) -> None:
    assert FrameSampling.parse(text) == expected


@pytest.mark.parametrize("text", ["", "0", "0s", "0f", "-1s", "0.5", "1.5f", "s", "1m", "infs", "1e3s"])
def test_what_is_no_distance_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no distance"):
        FrameSampling.parse(text)


def test_tenths_of_a_second_are_exact() -> None:
    every = FrameSampling.parse("0.3s")
    assert [every.stretch(n, Fraction(n, 10)) for n in range(10)] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert [FrameSampling.parse("3").stretch(n, Fraction(9)) for n in range(7)] == [0, 0, 0, 1, 1, 1, 2]
