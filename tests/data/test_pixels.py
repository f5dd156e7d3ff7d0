from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_deploy.data.csv import parse_pixels

rows = st.binary(min_size=2304, max_size=2304)


@given(rows)
@settings(deadline=None)
def test_every_row_comes_back(row: bytes) -> None:
    assert parse_pixels(" ".join(map(str, row))) == row


@given(rows, st.sampled_from(["  ", "\t", " 0", " \n "]))
@settings(deadline=None)
def test_unusual_separators_and_leading_zeros_are_read_too(row: bytes, separator: str) -> None:
    values = np.minimum(np.frombuffer(row, np.uint8), 99)
    assert parse_pixels(separator.join(map(str, values))) == values.tobytes()


@given(st.text(alphabet="0123456789 -x.", max_size=60))
@settings(deadline=None)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_pixels(text)


@given(
    rows, st.integers(0, 2303), st.sampled_from(["256", "999", "1000", "99999999999", "-1", "1e2", "0x1", "²", "nan"])
)
@settings(deadline=None)
def test_one_bad_number_is_named(row: bytes, position: int, token: str) -> None:
    tokens = [str(value) for value in row]
    tokens[position] = token
    with pytest.raises(ValueError, match=rf"pixel {position + 1} is .*expected .*0 to 255"):
        parse_pixels(" ".join(tokens))
