"""``Classifier.submit``: single pictures from many threads, in batches."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.api import Classifier, Prediction
from fer_deploy.backends.base import Backend, Images, Probabilities
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import BackendError, ImageError

SAMPLES = Path(__file__).parents[2] / "samples"
FACES = np.random.default_rng(0).integers(0, 256, (200, 48, 48), dtype=np.uint8)


class Gated(Backend):
    """Says a picture's first pixel; waits until it may, and fails on batches with a picture of zeros."""

    name, install, precisions = "gated", (), ("fp32",)

    def _load(self) -> None:
        self.sizes: list[int] = []
        self.may, self.began = threading.Event(), threading.Semaphore(0)

    def _infer(self, batch: Images) -> Probabilities:
        self.sizes.append(len(batch))
        self.began.release()
        assert self.may.wait(30)
        if not batch[:, 0, 0, 0].all():
            raise RuntimeError("a zero")
        return np.tile(batch[:, :1, 0, 0].astype(np.float32), 7)

    def _unload(self) -> None:
        pass


@pytest.fixture
def gated() -> Gated:
    return Gated(Bundle(Path(), "", "", ())).open()


def face(value: int) -> np.ndarray:
    return np.full((48, 48), value, np.uint8)


def said(future: Future[Prediction]) -> float:
    return future.result(30).probabilities[0]


def test_the_answers_of_many_threads(tiny_bundle: Bundle) -> None:
    with Classifier.load(tiny_bundle) as classifier, ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda one: classifier.submit(one).result(30).probabilities, FACES))
        np.testing.assert_allclose(found, classifier.predict(FACES).probabilities, atol=1e-5)


def test_a_single_one_starts_at_once_and_what_waits_goes_together(gated: Gated) -> None:
    with Classifier(gated) as classifier:
        first = []
        for value in (1, 2):  # one for each worker
            first.append(classifier.submit(face(value)))
            assert gated.began.acquire(timeout=30)
        rest = [classifier.submit(face(value)) for value in range(3, 83)]
        gated.may.set()
        assert [said(future) for future in [*first, *rest]] == list(range(1, 83))
    assert gated.sizes[:2] == [1, 1]
    assert max(gated.sizes) == 64


@pytest.mark.parametrize("shape", [(48, 48), (48, 48, 1), (48, 48, 3)])
def test_an_array_may_be_filled_anew_while_it_waits(gated: Gated, shape: tuple[int, ...]) -> None:
    buffer, futures = np.empty(shape, np.uint8), []
    with Classifier(gated) as classifier:
        for value in range(1, 10):
            buffer[:] = value
            futures.append(classifier.submit(buffer))
        gated.may.set()
        assert [said(future) for future in futures] == list(range(1, 10))


def test_closing_finishes_what_waits_and_takes_no_more(gated: Gated) -> None:
    classifier = Classifier(gated)
    futures = [classifier.submit(face(value)) for value in range(1, 100)]
    gated.may.set()
    classifier.close()
    assert [said(future) for future in futures] == list(range(1, 100))
    with pytest.raises(BackendError, match="closed"):
        classifier.submit(face(1))
    classifier.close()


def test_a_future_can_be_cancelled_while_it_waits(gated: Gated) -> None:
    with Classifier(gated) as classifier:
        for value in (1, 2):
            classifier.submit(face(value))
            assert gated.began.acquire(timeout=30)
        unwanted, wanted = classifier.submit(face(3)), classifier.submit(face(4))
        assert unwanted.cancel()
        gated.may.set()
        assert said(wanted) == 4
    assert sum(gated.sizes) == 3


def test_errors_go_to_their_own_future(gated: Gated, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with Classifier(gated) as classifier:
        gated.may.set()
        for item, reason in ((tmp_path / "bad.png", "bad.png: not an image"), (tmp_path, "a folder"), (b"", "empty")):
            with pytest.raises(ImageError, match=reason):
                classifier.submit(item).result(30)
        with pytest.raises(BackendError, match="a zero"):
            classifier.submit(face(0)).result(30)
        assert said(classifier.submit(face(5))) == 5


def test_paths_and_bytes(tiny_bundle: Bundle) -> None:
    path = SAMPLES / "admiral_48.png"
    with Classifier.load(tiny_bundle) as classifier:
        assert classifier.submit(path).result(30) == classifier.predict(path)[0]
        assert classifier.submit(path.read_bytes()).result(30) == classifier.predict(path.read_bytes())[0]


def test_closing_from_a_callback(gated: Gated) -> None:
    classifier, done = Classifier(gated), threading.Event()
    gated.may.set()
    classifier.submit(face(1)).add_done_callback(lambda _: (classifier.close(), done.set()))
    assert done.wait(30)
