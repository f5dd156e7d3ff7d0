"""The table on the terminal."""

from __future__ import annotations

import pytest

from fer_deploy.cli.outputs import TerminalTable
from fer_deploy.inference.prediction import Prediction


def test_the_first_rows_are_shown_and_names_cannot_break_out(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalTable() as shown:
        shown.write(Prediction("clip.mp4", "happy", 0.93, face=1, time_s=2.5, frame=25, track=3))
        shown.write(Prediction.of_no_face("sea.jpg"))
        shown.write(Prediction.failed("a\x1b[2Jb.png", "no\nimage"))
        for number in range(60):
            shown.write(Prediction(f"{number:03}.png", "sad", 0.5))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["clip.mp4", "face", "1", "2.5", "s", "track", "3", "happy", "93.0", "%", "█████████"]
    assert lines[2].split() == ["sea.jpg", "no-face"]
    assert r"a\x1b[2Jb.png" in lines[3]
    assert r"no\nimage" in lines[3]
    assert sum(".png" in line and "sad" in line for line in lines) == 47
    assert lines[-1] == "and 13 more; all rows: --output emotions.csv"


def test_nothing_is_shown_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalTable():
        pass
    assert capsys.readouterr().out == ""
