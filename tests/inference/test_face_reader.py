"""Faces in photos, through the whole pipeline: with the real detector where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_deploy import Classifier
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import ImageError, MissingDependencyError, UsageError
from fer_deploy.faces import networks
from fer_deploy.faces.detector import Detector
from fer_deploy.faces.face import Face
from fer_deploy.images.sources import Sources
from fer_deploy.inference.face_reader import PhotoReader
from fer_deploy.inference.pipeline import classify
from fer_deploy.inference.prediction import Prediction
from fer_deploy.inference.run import Summary

PORTRAIT = Path(__file__).parents[1] / "faces/astronaut.jpg"
BOX = (180, 62, 90, 115)


class BlueSquares(Detector):
    """A detector that anyone could write: each third of the picture that is blue is a face."""

    def detect(self, image: Any, hint: str = "") -> list[Face]:
        side = image.shape[1] / 3
        thirds = [image[:, round(n * side) : round((n + 1) * side)] for n in range(3)]
        blue = [n for n, third in enumerate(thirds) if third[..., 2].mean() > 200]
        return [Face((n * side, 0, side, image.shape[0]), 0.75) for n in blue]


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Bundle) -> Iterator[Classifier]:
    with Classifier.load(tiny_bundle) as loaded:
        yield loaded


def striped(*blue: bool) -> Any:
    """A photo of 900x300; the thirds that are blue are faces."""
    image = np.full((300, 900, 3), (200, 60, 20), np.uint8)
    for number, wanted in enumerate(blue):
        if wanted:
            image[:, 300 * number : 300 * number + 300] = (20, 60, 250)
    return image


def run(classifier: Classifier, items: list[Any], reader: PhotoReader, batch: int = 4) -> list[Prediction]:
    return [each for group in classify(Sources(items, reader.readers), classifier.backend, batch) for each in group]


def test_one_row_per_face_and_one_for_none(classifier: Classifier, tmp_path: Path) -> None:
    Image.fromarray(striped(False, False, False)).save(tmp_path / "none.png")
    small = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    items = [striped(True, False, True), tmp_path / "none.png", small, tmp_path / "gone.png", striped(True, True, True)]
    rows = run(classifier, items, PhotoReader("auto", BlueSquares()))
    assert [(row.path.split("/")[-1], row.status, row.face) for row in rows] == [
        *[("item 0", "ok", 0), ("item 0", "ok", 1), ("none.png", "no-face", None), ("item 2", "ok", None)],
        *[("gone.png", "error", None), ("item 4", "ok", 0), ("item 4", "ok", 1), ("item 4", "ok", 2)],
    ]
    assert rows[1].box == (600, 0, 300, 300)
    assert rows[1].face_score == 0.75
    assert (rows[2].box, rows[2].emotion, rows[3].box) == (None, None, None)
    assert rows[3].probabilities == pytest.approx(classifier.predict(small)[0].probabilities, abs=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_photos_without_any_face_pass_in_their_turn(classifier: Classifier, batch: int) -> None:
    items = [striped(False, False, False)] * 9 + [striped(False, True, False)] + [striped(False, False, False)] * 3
    rows = run(classifier, items, PhotoReader("detect", BlueSquares()), batch)
    assert [row.status for row in rows] == ["no-face"] * 9 + ["ok"] + ["no-face"] * 3


def test_detect_searches_small_pictures_too(classifier: Classifier) -> None:
    small = striped(True, False, False)[::6, ::6]
    (row,) = run(classifier, [small], PhotoReader("detect", BlueSquares()))
    assert (row.face, row.box) == (0, (0, 0, 50, 50))


def test_auto_takes_small_square_pictures_as_faces() -> None:
    reader = PhotoReader("auto", BlueSquares())
    sizes = {
        (48, 48): True,
        (100, 100): True,
        (216, 256): True,
        (257, 257): False,
        (200, 100): False,
        (640, 480): False,
    }
    assert {size: reader.is_face(*size) for size in sizes} == sizes


def test_without_the_extra_auto_takes_all_as_faces_and_detect_is_an_error(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "_CARRIER", "a-package-that-nobody-has")
    reader = PhotoReader("auto")
    (row,) = run(classifier, [striped(True, True, True)], reader)
    assert (row.status, row.face) == ("ok", None)
    assert reader.missing is not None
    assert "pip install 'fer-deploy[faces]'" in reader.missing
    with pytest.raises(MissingDependencyError, match=r"fer-deploy\[faces\]"):
        PhotoReader("detect")
    with pytest.raises(UsageError, match="auto, detect, crop"):
        PhotoReader("guess")


def test_a_classifier_takes_any_detector(
    classifier: Classifier, yellow_grids: Callable[..., bytes], tmp_path: Path
) -> None:
    other = Classifier(classifier.backend, BlueSquares())
    assert [face.box[0] for face in other.detect(striped(False, True, False))] == [300]
    assert [row.face for row in other.predict([striped(True, False, True)], face="auto")] == [0, 1]
    (tmp_path / "some.onnx").write_bytes(yellow_grids(alive=32))
    with Classifier.load(classifier.backend.bundle, detector=tmp_path / "some.onnx") as third:
        image = np.zeros((300, 400, 3), np.uint8)
        image[128:160, 192:224] = (255, 255, 0)
        (face,) = third.detect(image)
        assert face.score == pytest.approx(1, abs=0.02)
    with (
        Classifier.load(classifier.backend.bundle, detector="nobody.onnx") as fourth,
        pytest.raises(UsageError, match=r"no detector 'nobody\.onnx'"),
    ):
        fourth.predict(image, face="auto")


def test_the_detector_and_why_it_was_taken_are_told(
    classifier: Classifier, yellow_grids: Callable[..., bytes], tmp_path: Path
) -> None:
    (tmp_path / "some.onnx").write_bytes(yellow_grids())
    summary = Summary(classifier.backend)
    summary.searched(PhotoReader("auto", tmp_path / "some.onnx"))
    summary.add(Prediction.of_no_face("a.png"))
    assert "0 faces in 1 photo, none in 1; yunet looked for them" in summary.lines()
    assert summary.as_json()["detector"] == "yunet"
    summary.detector = ("yunet", "CenterFace is not installed")
    assert summary.lines()[-1].endswith("; yunet looked for them, since CenterFace is not installed")


def test_the_classifiers_own_ways(classifier: Classifier, detector: Any, astronaut: Any) -> None:
    (face,) = classifier.detect(PORTRAIT)
    assert face.box == pytest.approx(BOX, abs=20)
    (row,) = classifier.predict_faces(PORTRAIT)
    assert (row.path, row.face, row.box) == (str(PORTRAIT), 0, face.box)
    assert sum(row.probabilities) == pytest.approx(1, abs=1e-4)
    assert len(classifier.predict_faces(np.zeros((300, 400, 3), np.uint8))) == 0
    drawn = classifier.annotate(PORTRAIT)
    with Image.open(PORTRAIT) as image:
        changed = np.argwhere((np.asarray(drawn) != np.asarray(image.convert("RGB"))).any(axis=2))
    left, upper, width, height = face.box
    (top, first), (bottom, last) = changed.min(axis=0), changed.max(axis=0)
    assert (first, last) == (pytest.approx(left, abs=4), pytest.approx(left + width, abs=4)), "the box, and its label"
    assert bottom == pytest.approx(upper + height, abs=4)
    assert top < upper
    streamed = classifier.predict([PORTRAIT, astronaut], face="auto")
    assert [each.face for each in streamed] == [0, 0]
    assert streamed[0].box == pytest.approx(face.box, abs=2)
    assert classifier.predict(PORTRAIT)[0].face is None
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        classifier.predict_faces("gone.png")
