"""The page in a real browser: Chromium without a window, driven by Playwright.

Skipped where either is missing: Playwright (``pip install playwright``, without its browsers) and Chromium, which is
``chromium`` on the path, or at the variable CHROMIUM. With SCREENSHOTS set to a folder, pictures of the page are left
there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fer_deploy.inference.prediction import Prediction
from fer_deploy.labels import LABELS
from fer_deploy.reporting.html import Page

pytestmark = pytest.mark.chromium
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: pip install playwright")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium: install the package chromium, or set CHROMIUM to its program")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []  # which Chromium refuses to use as root
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=options)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(rows: list[Prediction], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    with Page(path, about=lambda: {"model": "tiny, fp32", "runtime": "OpenVINO"}) as page:
        for row in rows:
            page.write(row)
    return path


class View:
    """The page, opened, with what its console and the network saw."""

    def __init__(self, browser: Any, report: Path, **options: Any) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_page(**options)
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url[:60]))
        self.page.goto(report.as_uri())

    def __enter__(self) -> Any:
        return self.page

    def __exit__(self, kind: object, *_: object) -> None:
        self.page.close()
        if kind is None:
            assert self.said == []
            assert [url for url in self.asked if not url.startswith(("file:", "data:"))] == []
            assert sum(url.startswith("file:") for url in self.asked) == 1


def keep(page: Any, name: str, **options: Any) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(300)
        page.screenshot(path=f"{folder}/{name}.png", **options)


def confidences(page: Any) -> list[float]:
    titles = page.locator("#faces button").evaluate_all("all => all.map(each => each.getAttribute('aria-label'))")
    return [float(title.split(", ")[1].removesuffix(" %")) for title in titles]


def emotions(page: Any) -> set[str]:
    titles = page.locator("#faces button").evaluate_all("all => all.map(each => each.getAttribute('aria-label'))")
    return {title.split(", ")[0] for title in titles}


def test_filter_sort_and_show_more(browser: Any, report: Path, rows: list[Prediction]) -> None:
    found = [row for row in rows if row.emotion]
    with View(browser, report) as page:
        assert page.title() == f"Emotions of {len(found)} faces"
        assert page.locator("#faces button").count() == 120
        assert confidences(page) == sorted(confidences(page))
        assert confidences(page)[0] == pytest.approx(100 * min(row.confidence or 1 for row in found), abs=0.06)
        keep(page, "whole", full_page=True)
        page.locator("#more").click()
        assert page.locator("#faces button").count() == 240

        page.get_by_label("happy", exact=True).check()
        happy = [row for row in found if row.emotion == "happy"]
        assert page.locator("#shown").inner_text() == f"{len(happy)} of {len(found)} faces"
        assert emotions(page) == {"happy"}
        page.get_by_label("Least confidence").fill("50")
        page.get_by_label("Most confidence").fill("70")
        expected = [row for row in happy if 0.5 <= (row.confidence or 0) <= 0.7]
        assert page.locator("#shown").inner_text().startswith(f"{len(expected)} of")
        assert all(50 <= value <= 70 for value in confidences(page))

        page.get_by_role("button", name="Show all").click()
        page.locator("#shown", has_text="All").wait_for()
        page.get_by_label("Order").select_option("surest first")
        assert confidences(page) == sorted(confidences(page), reverse=True)
        page.get_by_label("Name contains").fill("OLD.zip/")
        assert page.locator("#faces button").count() == 4
        loaded = "all => all.every(image => image.complete && image.naturalWidth > 0)"
        page.wait_for_function(f"({loaded})([...document.querySelectorAll('#faces img')])")

        page.locator("#emotions button", has_text="sad").click()
        assert emotions(page) == {"sad"}


def test_a_face_opens_large_and_the_keyboard_is_enough(browser: Any, report: Path) -> None:
    with View(browser, report) as page:
        first = page.locator("#faces button").first
        label = first.get_attribute("aria-label")
        first.focus()
        page.keyboard.press("Enter")
        dialog = page.locator("dialog")
        assert dialog.is_visible()
        assert label.startswith(page.locator("#face-title").inner_text())
        assert page.locator("#face-chances th").all_inner_texts() == list(LABELS)
        chances = [float(text[:-2]) for text in page.locator("#face-chances td:last-child").all_inner_texts()]
        assert sum(chances) == pytest.approx(100, abs=0.4)
        keep(page, "face")
        page.keyboard.press("ArrowRight")
        assert page.locator("#face-facts").inner_text().startswith("2 of")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        assert page.locator("#face-facts").inner_text().startswith("1 of")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Escape")
        assert not dialog.is_visible()
        focused = "document.activeElement.getAttribute('aria-label')"
        second = page.locator("#faces button").nth(1).get_attribute("aria-label")
        assert page.evaluate(focused) == second  # where the dialog was left
        page.keyboard.press("ArrowRight")
        assert page.evaluate(focused) == page.locator("#faces button").nth(2).get_attribute("aria-label")
        page.keyboard.press("Home")
        page.keyboard.press("ArrowDown")
        columns = "getComputedStyle(document.getElementById('faces')).gridTemplateColumns.split(' ').length"
        below = page.locator("#faces button").nth(page.evaluate(columns)).get_attribute("aria-label")
        assert page.evaluate(focused) == below


def test_names_are_text_and_nothing_else(browser: Any, report: Path) -> None:
    with View(browser, report) as page:
        for part in ("onerror=alert", "document.title", "&amp;", "javascript:", "${style}", "caf\\xe9"):
            page.get_by_label("Name contains").fill(part)
            assert page.locator("#faces button").count() == 1
            page.locator("#faces button").click()
            assert part in page.locator("#face-path").inner_text()
            page.keyboard.press("Escape")
        assert page.title().startswith("Emotions of")
        assert page.locator("#failures tr").count() == 3
        assert "<b>0</b>" in page.locator("#failures").inner_text()
        assert page.locator("#failures b").count() == 0
        page.locator("#faceless-summary").click()
        assert "landscape 1.jpg" in page.locator("#faceless").inner_text()


LUMINANCE = """
(selector) => {
  const luminance = (colour) => {
    const parts = colour.match(/[0-9.]+/g).slice(0, 3).map((value) => value / 255)
      .map((value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const node = document.querySelector(selector);
  let behind = node;
  while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
  const both = [luminance(getComputedStyle(node).color), luminance(getComputedStyle(behind).backgroundColor)];
  return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_in_light_and_dark(browser: Any, report: Path, scheme: str) -> None:
    with View(browser, report, viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        keep(page, f"phone-{scheme}")
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(back.split("(")[1].split(",")[0]) < 60) == (scheme == "dark")
        for selector in ("body", ".note", "#tiles dt", "#faces small", "#legend", ".fields label", "button"):
            assert page.evaluate(LUMINANCE, selector) >= 4.5, selector
        page.locator("#faces button").first.tap()
        assert page.locator("dialog").is_visible()
        assert page.locator("#close").is_visible()
        assert page.evaluate("document.querySelector('dialog').scrollWidth") <= 360
        keep(page, f"phone-face-{scheme}")
        page.locator("#close").tap()
        assert not page.locator("dialog").is_visible()


def test_ten_thousand_photos_open(browser: Any, photos: Path, tmp_path: Path) -> None:
    import numpy as np

    paths = sorted((photos / "beach").iterdir())
    drawn = np.random.default_rng(0).dirichlet(np.ones(7), 10_000).astype(np.float32)
    with Page(tmp_path / "r.html") as report:
        for index, chances in enumerate(drawn):
            report.write(Prediction.of(str(paths[index // 100]), chances))
    assert (tmp_path / "r.html").stat().st_size < 30 << 20
    with View(browser, tmp_path / "r.html") as page:
        assert page.locator("#shown").inner_text() == "All 10,000 faces"
        page.get_by_label("angry", exact=True).check()
        assert emotions(page) == {"angry"}


MIDDLE = """
(image) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return [...context.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data].slice(0, 3);
}
"""


def test_faces_of_a_video_are_seen(browser: Any, photos: Path, tmp_path: Path) -> None:
    import numpy as np

    av: Any = pytest.importorskip("av", reason="PyAV is not installed: pip install 'fer-deploy[video]'")
    rows = [Prediction.of(str(photos / "beach/000.png"), np.eye(7, dtype=np.float32)[4])]
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for frame in range(60):
            image = np.full((240, 320, 3), 60, np.uint8)
            for track, colour in ((0, (220, 30, 30)), (1, (30, 30, 220))):
                left, upper = 20 + 4 * frame, 40 + 100 * track
                image[upper : upper + 40, left : left + 40] = colour
                if frame % 5 == 0:
                    chances = np.full(7, 0.05, np.float32)
                    chances[3 if track else 0] = 0.7
                    found = Prediction.of(str(tmp_path / "clip.mp4"), chances)
                    place = {"box": (float(left), float(upper), 40.0, 40.0), "face": track, "face_score": 0.9}
                    rows.append(replace(found, **place, time_s=frame / 10, frame=frame, track=track))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    with Page(tmp_path / "r.html") as report:
        for row in rows:
            report.write(row)
    with View(browser, tmp_path / "r.html") as page:
        assert page.locator("#time-section svg").is_visible()
        assert page.locator("#faces button").count() == page.locator("#faces button img").count() == len(rows)
        for emotion, track, strongest in (("angry", 0, 0), ("happy", 1, 2)):
            page.get_by_label(emotion, exact=True).check()
            assert page.locator("#faces button").count() == 12
            assert page.locator("#faces small").nth(7).inner_text() == "clip.mp4 0:03"
            page.locator("#faces button").nth(7).click()
            assert f"track {track}" in page.locator("#face-facts").inner_text()
            colour = page.locator("#face-picture").evaluate(MIDDLE)
            assert colour[strongest] > 150 > 90 > colour[2 - strongest]
            keep(page, f"video-{emotion}")
            page.keyboard.press("Escape")
            page.get_by_label(emotion, exact=True).uncheck()
