from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fer_deploy
from fer_deploy.api import Classifier, Prediction, Predictions
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import BundleError, ImageError, UsageError
from fer_deploy.labels import LABELS

FACES = np.random.default_rng(0).integers(0, 256, (30, 48, 48), dtype=np.uint8)


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Bundle) -> Iterator[Classifier]:
    with Classifier.load(tiny_bundle) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def expected(classifier: Classifier) -> np.ndarray:
    return classifier.backend.run(FACES[..., None])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, face in enumerate(FACES[:10]):
        Image.fromarray(face).save(tmp_path / f"{index}.png")
    return tmp_path


def test_the_public_names() -> None:
    assert fer_deploy.Classifier is Classifier
    assert fer_deploy.Prediction is Prediction


@pytest.mark.parametrize("items", [FACES, FACES[..., None], list(FACES), [face[..., None] for face in FACES]])
@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_arrays(classifier: Classifier, expected: np.ndarray, items: object, batch_size: int) -> None:
    found = classifier.predict(items, batch_size=batch_size)  # type: ignore[arg-type]
    assert isinstance(found, Predictions)
    assert found.probabilities.dtype == np.float32
    assert found.probabilities.shape == (30, 7)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    assert found.labels == LABELS
    assert found.emotions == [LABELS[best] for best in expected.argmax(axis=1)]
    assert [each.path for each in found] == [f"item {index}" for index in range(30)]


def test_one_prediction(classifier: Classifier, expected: np.ndarray) -> None:
    (prediction,) = classifier.predict([FACES[0]])
    assert prediction.status == "ok"
    assert prediction.reason == ""
    assert prediction.emotion == LABELS[expected[0].argmax()]
    assert prediction.confidence == max(prediction.probabilities) == pytest.approx(float(expected[0].max()), abs=1e-6)
    assert sum(prediction.probabilities) == pytest.approx(1, abs=1e-5)


def test_a_single_picture_needs_no_list(classifier: Classifier, expected: np.ndarray, folder: Path) -> None:
    path = folder / "0.png"
    colours = np.repeat(FACES[0][..., None], 3, axis=2)
    for one in (FACES[0], FACES[0][..., None], colours, path, str(path), path.read_bytes()):
        found = classifier.predict(one)  # type: ignore[arg-type]
        np.testing.assert_allclose(found.probabilities, expected[:1], atol=1e-6)


def test_a_mix(classifier: Classifier, expected: np.ndarray, folder: Path) -> None:
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.write(folder / "4.png", "four.png")
    items = [FACES[2], folder / "1.png", (folder / "3.png").read_bytes(), str(folder / "more.zip")]
    found = classifier.predict(items)
    np.testing.assert_allclose(found.probabilities, expected[[2, 1, 3, 4]], atol=1e-6)
    names = ["item 0", str(folder / "1.png"), "item 2", f"{folder}/more.zip/four.png"]
    assert [each.path for each in found] == names


def test_a_folder_gives_one_prediction_per_picture(classifier: Classifier, expected: np.ndarray, folder: Path) -> None:
    np.testing.assert_allclose(classifier.predict(folder).probabilities, expected[:10], atol=1e-6)
    np.testing.assert_allclose(classifier.predict(f"{folder}/[0-4].png").probabilities, expected[:5], atol=1e-6)


def test_a_bad_picture_raises_and_is_named(classifier: Classifier, folder: Path) -> None:
    (folder / "5.png").write_text("no picture")
    with pytest.raises(ImageError, match=r"5\.png: not an image of a known format"):
        classifier.predict(folder)
    with pytest.raises(ImageError, match="item 1: an array of float64"):
        classifier.predict([FACES[0], np.zeros((48, 48))])
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        classifier.predict("gone.png")
    with pytest.raises(ImageError, match="item 0: an array of float32"):
        classifier.predict(np.zeros((3, 48, 48, 1), np.float32))  # type: ignore[arg-type]


def test_or_becomes_a_row(classifier: Classifier, expected: np.ndarray, folder: Path) -> None:
    (folder / "5.png").write_text("no picture")
    found = classifier.predict(folder, on_error="row")
    assert len(found) == 10
    assert found[5] == Prediction(str(folder / "5.png"), None, None, (), "error", "not an image of a known format")
    assert np.isnan(found.probabilities[5]).all()
    np.testing.assert_allclose(np.delete(found.probabilities, 5, 0), np.delete(expected[:10], 5, 0), atol=1e-6)
    assert found.emotions[5] is None


def test_nothing_in_nothing_out(classifier: Classifier) -> None:
    for nothing in ([], FACES[:0]):
        found = classifier.predict(nothing)
        assert len(found) == 0
        assert found.probabilities.shape == (0, 7)


def test_arguments_that_make_no_sense(classifier: Classifier) -> None:
    with pytest.raises(UsageError, match="batch_size must be at least 1, got 0"):
        classifier.predict([], batch_size=0)
    with pytest.raises(UsageError, match="on_error must be"):
        classifier.predict([], on_error="ignore")  # type: ignore[arg-type]


def test_a_stream_is_lazy(classifier: Classifier, expected: np.ndarray) -> None:
    drawn = 0

    def camera() -> Iterator[np.ndarray]:
        nonlocal drawn
        while True:
            drawn += 1
            yield FACES[(drawn - 1) % 30]

    stream = classifier.stream(camera(), batch_size=4)
    found = Predictions(islice(stream, 50))
    stream.close()
    assert drawn < 150
    np.testing.assert_allclose(found.probabilities, np.tile(expected, (2, 1))[:50], atol=1e-6)


def test_several_threads_share_one(classifier: Classifier, expected: np.ndarray, folder: Path) -> None:
    def work(n: int) -> bool:
        by_array = classifier.predict(FACES, batch_size=4 + n % 5).probabilities
        by_path = classifier.predict(folder, batch_size=3).probabilities
        return np.allclose(by_array, expected, atol=1e-6) and np.allclose(by_path, expected[:10], atol=1e-6)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(16)))


def test_predictions_are_a_sequence(classifier: Classifier) -> None:
    found = classifier.predict(FACES)
    assert isinstance(found[2:5], Predictions)
    assert found[2:5].probabilities.shape == (3, 7)
    assert found[-1] == list(found)[29]
    assert "Prediction(path='item 0'" in repr(found[:1])


def test_loading(tiny_bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle.path, tmp_path / "mine")
    for where in (tmp_path / "mine", str(tmp_path / "mine"), tmp_path / "mine/bundle.json"):
        with Classifier.load(where, threads=1) as loaded:
            assert loaded.backend.threads == 1
    with pytest.raises(BundleError, match="is not a bundle"):
        Classifier.load(tmp_path)
