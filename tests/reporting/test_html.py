from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.errors import OutputError, UsageError
from fer_deploy.inference.prediction import Prediction
from fer_deploy.labels import LABELS
from fer_deploy.reporting import gallery
from fer_deploy.reporting.gallery import Gallery
from fer_deploy.reporting.html import BINS, FOLDERS_COUNTED, LISTED, OTHERS, Clip, Counts, Page


def write(path: Path, rows: list[Prediction], **options: Any) -> dict[str, Any]:
    """Writes a page; returns the data in it."""
    with Page(path, **options) as page:
        for row in rows:
            page.write(row)
    return data_of(path)


def data_of(path: Path) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', path.read_text())
    return json.loads(text)


def row(confidence: float, path: str = "x.png") -> Prediction:
    rest = (1 - confidence) / 6
    return Prediction.of(path, np.array([rest] * 3 + [confidence] + [rest] * 3, np.float32))


def test_the_page_tells_what_the_rows_tell(photos: Path, rows: list[Prediction], tmp_path: Path) -> None:
    data = write(tmp_path / "r.html", rows, about=lambda: {"model": "tiny <b>"})
    counts = data["counts"]
    assert data["about"] == [["model", "tiny <b>"]]
    found = [each for each in rows if each.emotion]
    assert (counts["faces"], counts["failed"], counts["withoutFace"]) == (len(found), 3, 2)
    assert counts["pictures"] == len({each.path for each in rows}) + 1  # one picture comes twice, for its faces
    assert counts["emotions"] == [sum(each.emotion == label for each in found) for label in LABELS]
    assert dict(map(tuple, counts["failures"]))[f"{photos}/bad <b>0</b>.png"] == "truncated image & more"
    assert [sum(emotions) for _, emotions in counts["folders"]][:2] == [152, 150]
    assert len(data["rows"]) == len(found)
    for shown, each in zip(data["rows"], found, strict=True):
        assert shown["confidence"] == pytest.approx(each.confidence, abs=1e-4)
        assert np.abs(np.array(shown["permille"]) / 1000 - each.probabilities).max() <= 0.0006
        assert ("picture" in shown) == (Path(each.path).is_file() or ".zip/" in each.path)
    ((path, step_s, bins),) = counts["clips"]
    assert path.endswith("clip.mp4")
    assert (sum(map(sum, bins)), step_s * len(bins) > 195) == (40, True)


def test_nothing_in_a_name_gets_out_of_the_data(rows: list[Prediction], tmp_path: Path) -> None:
    write(tmp_path / "r.html", rows)
    text = (tmp_path / "r.html").read_text()
    assert text.count("</script>") == 2
    assert "onerror" not in re.sub(r'id="data">.*?</script>', "", text)
    assert "\u2028" not in (tmp_path / "r.html").read_text()
    links = [each["link"] for each in data_of(tmp_path / "r.html")["rows"] if "link" in each]
    assert all(link.startswith(("../", "./")) for link in links)
    assert any("caf%E9.png" in link for link in links)


def test_nothing_is_loaded_from_elsewhere(rows: list[Prediction], tmp_path: Path) -> None:
    write(tmp_path / "r.html", rows[:3])
    text = re.sub(r'id="data">.*?</script>', "", (tmp_path / "r.html").read_text())
    assert re.findall(r"""(?:src|href)=["']?([^"'> ]+)""", text) == ["data:,", "#gallery"]
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text


def test_many_rows_give_a_page_that_opens(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    few = Gallery(shown=200)
    confidences = rng.uniform(0.2, 1, 5000)
    for index, confidence in enumerate(confidences):
        few.add(row(float(confidence), f"{index}.png"))
    kept = [each.confidence or 0 for each in few.rows()]
    assert len(kept) == 200
    assert np.allclose(np.sort(kept)[:100], np.sort(confidences.astype(np.float32))[:100])
    others = np.sort(kept)[100:]
    assert 0.5 < others.mean() < 0.7  # from the whole range, not its beginning or end
    assert [int(each.path[:-4]) for each in few.rows()] == sorted(int(each.path[:-4]) for each in few.rows())


def test_small_pictures_are_bounded_in_bytes_and_the_unsure_come_first(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(path) for path in sorted((photos / "beach").iterdir())[:40]]
    rows = [row(0.99 - index / 100, path) for index, path in enumerate(paths)]
    monkeypatch.setattr(gallery, "MOST_BYTES", 10_000)
    shown = write(tmp_path / "r.html", rows)["rows"]
    has = ["picture" in each for each in shown]
    assert 1 < sum(has) < 40
    assert has == sorted(has)
    assert sum(len(each.get("picture", "")) for each in shown) <= 10_000 * 4 / 3 + 4 * 40


def test_counts_are_bounded() -> None:
    counts = Counts()
    for index in range(FOLDERS_COUNTED + 10):
        counts.add(row(0.5, f"{index}/x.png"))
        counts.add(Prediction.failed(f"{index}/y.png", "no"))
    reported = counts.as_json()
    assert len(reported["failures"]) == LISTED
    assert reported["failed"] == FOLDERS_COUNTED + 10
    assert reported["folders"][0] == [OTHERS, [0, 0, 0, 10, 0, 0, 0]]
    clip = Clip()
    for second in range(3600):
        clip.add(second, second % 7)
    assert len(clip.bins) <= BINS
    assert sum(map(sum, clip.bins)) == 3600


def test_a_run_that_was_broken_off_leaves_no_page(tmp_path: Path) -> None:
    def broken() -> None:
        with Page(tmp_path / "r.html") as page:
            page.write(row(0.5))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert not list(tmp_path.iterdir())


def test_where_no_page_can_lie(tmp_path: Path) -> None:
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        Page(tmp_path / "mine.html")
    with pytest.raises(UsageError, match=r"must end in \.html"):
        Page(tmp_path / "r.pdf")
    with pytest.raises(OutputError, match="there is no folder"):
        Page(tmp_path / "gone/r.html")
    write(tmp_path / "mine.html", [], overwrite=True)
    assert data_of(tmp_path / "mine.html")["counts"]["faces"] == 0
