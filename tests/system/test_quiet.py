"""Native noise is held back, and nothing else."""

from __future__ import annotations

import os
import sys

import pytest

from fer_deploy.errors import ModelError
from fer_deploy.system.quiet import quiet


def fail(noise: bytes, error: Exception) -> None:
    os.write(2, noise)
    raise error


def test_native_noise_is_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet():
        os.write(2, b"noise\n")
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "later\n"


def test_pythons_stderr_goes_on(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with os.fdopen(os.dup(2), "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setattr(sys, "__stderr__", stderr)
        with quiet():
            print("progress", file=sys.stderr)
        assert sys.stderr is stderr
    assert capfd.readouterr().err == "progress\n"


def test_unexpected_failure_shows_the_noise(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), quiet():
        fail(b"the reason\n", ZeroDivisionError())
    assert "the reason" in capfd.readouterr().err


def test_an_error_of_ours_needs_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError), quiet():
        fail(b"noise\n", ModelError("clear"))
    assert capfd.readouterr().err == ""
