"""The ``null`` backend: the contract kept, nothing computed, and taken only where it is named."""

from __future__ import annotations

import numpy as np
import pytest

from fer_deploy.backends.null import NullBackend
from fer_deploy.backends.registry import BACKENDS, MEASURING, backend_class
from fer_deploy.backends.select import open_backend
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import BackendError, UsageError
from fer_deploy.verification.variants import NULL, all_variants, select

IMAGES = np.zeros((5, 48, 48, 1), np.uint8)


def test_it_answers_and_keeps_the_contract() -> None:
    with NullBackend(Bundle.load()) as backend:
        found = backend.run(IMAGES)
        assert (found.shape, found.dtype) == ((5, 7), np.float32)
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
        assert [len(prediction) for prediction in backend.run_stream([IMAGES, IMAGES[:2]])] == [5, 2]
        with pytest.raises(BackendError, match="must be uint8"):
            backend.run(IMAGES[..., 0])


def test_it_is_found_by_its_name_only() -> None:
    assert backend_class("null") is NullBackend
    assert not set(MEASURING) & set(BACKENDS)
    assert NULL not in all_variants()
    assert NULL in select(extra=(NULL,)).variants
    assert select("null", extra=(NULL,)).variants == (NULL,)
    with pytest.raises(UsageError, match="no backend 'null'"):
        select("null")


def test_auto_never_takes_it() -> None:
    with open_backend(Bundle.load(), device="cpu") as backend:
        assert backend.name != "null"
