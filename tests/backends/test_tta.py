"""Two looks at each picture: the mean of both answers, whichever way batches are run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fer_deploy import Classifier
from fer_deploy.backends.base import Backend
from fer_deploy.backends.select import open_backend
from fer_deploy.backends.tta import with_tta
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.data.probe import probe_images
from fer_deploy.errors import BackendError, UsageError
from fer_deploy.inference.run import Summary


@pytest.fixture
def once(tiny_bundle: Bundle) -> Iterator[Backend]:
    with open_backend(tiny_bundle, "openvino", "fp32", threads=1) as backend:
        yield backend


@pytest.fixture
def twice(tiny_bundle: Bundle) -> Iterator[Backend]:
    with open_backend(tiny_bundle, "openvino", "fp32", threads=1, tta="flip") as backend:
        yield backend


def test_the_answer_is_the_mean_of_both(once: Backend, twice: Backend) -> None:
    images = probe_images()
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    wanted = (once.run(images) + once.run(mirrored)) / 2
    assert np.abs(once.run(images) - wanted).max() > 0.01
    for predictions in (twice.run(images), twice.run_concurrent(images), twice.run(mirrored)):
        assert predictions.dtype == np.float32
        assert np.abs(predictions - wanted).max() < 1e-6


@pytest.mark.parametrize("sizes", [(20,), (20, 20, 7), (1,) * 9])
def test_a_stream_gives_the_same_in_order(sizes: tuple[int, ...], twice: Backend) -> None:
    ends = np.cumsum(sizes)
    batches = np.split(probe_images()[: ends[-1]], ends[:-1])
    found = list(twice.run_stream(iter(batches)))
    assert [len(part) for part in found] == list(sizes)
    assert np.abs(np.concatenate(found) - twice.run(probe_images()[: ends[-1]])).max() < 1e-6


def test_it_tells_what_the_backend_inside_tells(once: Backend, twice: Backend) -> None:
    reported = ("name", "precision", "effective", "device", "runtime", "batch", "threads")
    assert [getattr(twice, name) for name in reported] == [getattr(once, name) for name in reported]
    assert (once.tta, twice.tta) == (None, "flip")
    assert Summary(once).as_json()["tta"] is None
    assert Summary(twice).as_json()["tta"] == "flip"
    assert "--tta flip" in Summary(twice).lines()[-1]
    assert "tta" not in Summary(once).lines()[-1]


def test_off_it_is_not_there_at_all(once: Backend) -> None:
    assert with_tta(once, None) is once


def test_closed_with_what_is_inside_and_opened_again(once: Backend) -> None:
    twice = with_tta(once, "flip")
    first = twice.run(probe_images()[:3])
    twice.close()
    for backend in (once, twice):
        with pytest.raises(BackendError, match="is not open"):
            backend.run(probe_images()[:3])
    with twice:
        assert np.abs(twice.run(probe_images()[:3]) - first).max() < 1e-6


def test_another_word_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="no test-time augmentation 'rotate'; there is: flip"):
        open_backend(tiny_bundle, tta="rotate")


def test_a_classifier_takes_it(tiny_bundle: Bundle, twice: Backend) -> None:
    faces = probe_images()[:5]
    with Classifier.load(tiny_bundle, "openvino", "fp32", threads=1, tta="flip") as classifier:
        found = classifier.predict(faces).probabilities
        submitted = classifier.submit(faces[0]).result().probabilities
    assert np.abs(found - twice.run(faces)).max() < 1e-6
    assert np.abs(np.asarray(submitted) - found[0]).max() < 1e-6
