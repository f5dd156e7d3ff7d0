"""Ratios, names of result files, tables."""

from __future__ import annotations

import pytest
from rounds import markdown, rate, ratio, result_name


def samples(*rates: float) -> list[dict[str, float]]:
    return [{"n": 2 * each, "seconds": 2.0} for each in rates]


def test_a_ratio_is_taken_round_by_round() -> None:
    """A round in which the machine was slow for both changes nothing; the ratio of the medians would be 10 / 4."""
    assert ratio(samples(10, 1, 30), samples(4, 0.5, 15)) == {"median": 2.0, "min": 2.0, "max": 2.5}


def test_rounds_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rounds of one and 1 of the other"):
        ratio(samples(1, 2), samples(1))
    with pytest.raises(ValueError, match="at least one"):
        ratio([], [])


def test_a_rate_is_the_median_of_the_rounds() -> None:
    assert rate(samples(1, 100, 7)) == 7


@pytest.mark.parametrize(
    ("cpu", "kind", "expected"),
    [
        ("AMD EPYC", "avx512-vnni", "peers-amd_epyc-avx512_vnni.json"),
        ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "amx", "peers-intel_xeon_platinum_8481c-amx.json"),
        (None, "other", "peers-unknown-other.json"),
    ],
)
def test_result_files_are_named_by_processor_and_class(cpu: str | None, kind: str, expected: str) -> None:
    assert result_name("peers", {"cpu": cpu, "cpu_class": kind}) == expected


def test_a_bar_in_a_cell_ends_no_cell() -> None:
    assert markdown(["a", "b"], [["x|y", "1"]]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |"
