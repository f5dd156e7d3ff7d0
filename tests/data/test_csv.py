"""Bad rows of a CSV, each with what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fer_deploy.data.fer2013 import TRAINING
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.errors import DataError

GOOD = " ".join(["7"] * 2304)

BAD = {
    f"0,{GOOD[:-2]},Training": "the row has 2303 pixels, expected 2304 (48 x 48)",
    f"0,{GOOD} 7,Training": "the row has 2305 pixels, expected 2304 (48 x 48)",
    "0,,Training": "the row has 0 pixels, expected 2304 (48 x 48)",
    f"0,256{GOOD[1:]},Training": "pixel 1 is 256, expected 0 to 255",
    f"0,{GOOD[:-1]}-1,Training": "pixel 2304 is -1, expected 0 to 255",
    f"0,{GOOD[:-1]}1000,Training": "pixel 2304 is 1000, expected 0 to 255",
    f"0,{GOOD[:-1]}x,Training": "pixel 2304 is 'x', expected a whole number from 0 to 255",
    f"0,{GOOD[:-1]}7.5,Training": "pixel 2304 is '7.5', expected a whole number from 0 to 255",
    f"0,{GOOD[:-1]}٣,Training": "pixel 2304 is '٣', expected a whole number from 0 to 255",
    f"7,{GOOD},Training": "emotion is '7', expected 0 to 6 (angry, disgust, fear, happy, sad, surprise, neutral)",
    f"happy,{GOOD},Training": "emotion is 'happy', expected 0 to 6",
    f",{GOOD},Training": "emotion is '', expected 0 to 6",
    f"0,{GOOD},Validation": "Usage is 'Validation', expected Training, PublicTest or PrivateTest",
    f"0,{GOOD},": "Usage is '', expected Training",
    f"0,{GOOD}": "the line has 2 fields, expected 3",
    f"0,{GOOD},Training,x": "the line has 4 fields, expected 3",
    f'0,"{GOOD},Training': "the line has 2 fields, expected 3",
}


@pytest.mark.parametrize(("row", "reason"), BAD.items(), ids=BAD.values())
def test_a_bad_row_names_its_line(row: str, reason: str, write_csv: Callable[..., Path]) -> None:
    path = write_csv(["emotion,pixels,Usage", f"3,{GOOD},Training", "", row, f"4,{GOOD},Training"])
    with pytest.raises(DataError) as caught:
        load_fer2013(path)
    assert str(caught.value).startswith(f"{path}, line 4: {reason}")
    assert str(caught.value).endswith("Repair it, or go on without it: --skip-bad (Python: skip_bad=True)")
    assert len(str(caught.value)) < 400

    data = load_fer2013(path, skip_bad=True)
    assert data.partition(TRAINING).labels.tolist() == [3, 4]
    (bad,) = data.skipped
    assert bad.where == "line 4"
    assert bad.reason.startswith(reason)


def test_bad_rows_do_not_change_the_names_of_others(write_csv: Callable[..., Path]) -> None:
    path = write_csv(["emotion,pixels,Usage", f"3,{GOOD},Training", "3,1 2,Training", f"4,{GOOD},Training"])
    assert load_fer2013(path, skip_bad=True).partition(TRAINING).names == ("Training_00000", "Training_00002")


def test_names_of_their_own(write_csv: Callable[..., Path]) -> None:
    rows = [f"3,{GOOD},Training,b", f"0,{GOOD},Training,a", f'1,{GOOD},Training,"c, d"']
    partition = load_fer2013(write_csv(["emotion,pixels,Usage,name", *rows])).partition(TRAINING)
    assert partition.names == ("a", "b", "c, d")
    assert partition.labels.tolist() == [0, 3, 1]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../../x", "its name '../../x' cannot be a plain file name in every form"),
        ("happy/x", "its name 'happy/x' cannot be"),
        (".hidden", "its name '.hidden' cannot be"),
        ("C:\\x", "its name 'C:\\\\x' cannot be"),
        ("", "its name has 0 characters, expected 1 to 200"),
        ("x" * 201, "its name has 201 characters"),
    ],
)
def test_a_name_cannot_lead_elsewhere(name: str, reason: str, write_csv: Callable[..., Path]) -> None:
    with pytest.raises(DataError) as caught:
        load_fer2013(write_csv(["emotion,pixels,Usage,name", f"0,{GOOD},Training,{name}"]))
    assert f"line 2: {reason}" in str(caught.value)


def test_the_same_name_twice(write_csv: Callable[..., Path]) -> None:
    path = write_csv(["emotion,pixels,Usage,name", *[f"0,{GOOD},Training,x"] * 2, f"1,{GOOD},Training,x"])
    with pytest.raises(DataError, match="line 3: there is already a picture x of class angry"):
        load_fer2013(path)
    assert load_fer2013(path, skip_bad=True).partition(TRAINING).names == ("angry/x", "disgust/x")
