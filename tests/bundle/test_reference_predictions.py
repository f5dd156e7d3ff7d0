"""Recorded answers come back as they were, and no damage to the file does more than raise one error."""

from __future__ import annotations

import dataclasses
import io
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_deploy.bundle import reference_predictions
from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.bundle.reference_predictions import (
    OUTPUTS_FILE,
    KerasOutputs,
    RecordedPartition,
    fingerprint,
    read_outputs,
    write_outputs,
)
from fer_deploy.errors import BundleError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 48, 48), dtype=np.uint8)


def probabilities(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(7), n).astype(np.float32)


def load(folder: Path) -> KerasOutputs:
    """Reads the file with a manifest that fits it, as after a bad export."""
    artefact = describe_file(folder, OUTPUTS_FILE, "outputs", "fp32", {})
    found = read_outputs(Bundle(folder, "test", "0" * 64, (artefact,)))
    assert found is not None
    return found


def write_entries(folder: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(folder / OUTPUTS_FILE, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


PROBE = {"probe.npy": npy(probabilities(111))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("outputs")
    write_outputs(folder, probe=probabilities(111), partitions={"Test": RecordedPartition("a" * 64, probabilities(5))})
    return (folder / OUTPUTS_FILE).read_bytes()


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    recorded = RecordedPartition(fingerprint(IMAGES), probabilities(5))
    assert write_outputs(tmp_path, probe=probabilities(111), partitions={"PublicTest": recorded}) == OUTPUTS_FILE
    found = load(tmp_path)
    np.testing.assert_array_equal(found.probe, probabilities(111))
    assert found.partitions["PublicTest"].fingerprint == fingerprint(IMAGES[..., None])
    np.testing.assert_array_equal(found.partitions["PublicTest"].probabilities, probabilities(5))


def test_a_bundle_without_has_none(tmp_path: Path) -> None:
    assert read_outputs(Bundle(tmp_path, "test", "0" * 64, ())) is None


def test_equal_answers_give_equal_bytes(tmp_path: Path) -> None:
    one, two = RecordedPartition("a" * 64, probabilities(5)), RecordedPartition("b" * 64, probabilities(6))
    contents = []
    for partitions in ({"PublicTest": one, "PrivateTest": two}, {"PrivateTest": two, "PublicTest": one}):
        write_outputs(tmp_path, probe=probabilities(111), partitions=partitions)
        contents.append((tmp_path / OUTPUTS_FILE).read_bytes())
    assert contents[0] == contents[1]
    with zipfile.ZipFile(tmp_path / OUTPUTS_FILE) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_numpy_reads_it_too(whole: bytes) -> None:
    with np.load(io.BytesIO(whole), allow_pickle=False) as arrays:
        assert set(arrays) == {"probe", "Test", "Test_fingerprint"}


@pytest.mark.parametrize(
    ("probe", "partitions"),
    [
        (probabilities(110), {}),
        (probabilities(111).astype(np.float64), {}),
        (probabilities(111) * 2, {}),
        (probabilities(111) * np.nan, {}),
        (probabilities(111), {"elsewhere": RecordedPartition("a" * 64, probabilities(5))}),
        (probabilities(111), {"Test": RecordedPartition("a" * 64, probabilities(5)[:, :6])}),
    ],
)
def test_what_is_no_answer_is_not_written(tmp_path: Path, probe: Any, partitions: Any) -> None:
    with pytest.raises(ValueError, match=r"expected float32|rows must sum|no partition"):
        write_outputs(tmp_path, probe=probe, partitions=partitions)
    assert not (tmp_path / OUTPUTS_FILE).exists()


HUGE = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little")
HUGE += b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999, 7), }".ljust(117) + b"\n"


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({}, "it holds"),
        ({"other.npy": b""}, "it holds other"),
        ({**PROBE, "Test.npy": npy(probabilities(5))}, "with fingerprints"),
        ({"probe.npy": npy(np.array([{}], object), allow_pickle=True)}, "not an array of ours"),
        ({"probe.npy": pickle.dumps([1.0])}, "magic"),
        ({"probe.npy": HUGE}, "not an array of ours"),
        ({"probe.npy": npy(probabilities(111))[:-1]}, "truncated"),
        ({"probe.npy": npy(probabilities(111)) + b"\0"}, "truncated or has more"),
        ({"probe.npy": npy(probabilities(112))}, r"expected float32 \(111, 7\)"),
        ({"probe.npy": npy(np.asfortranarray(probabilities(111)))}, "not an array of ours"),
        ({"probe.npy": npy(-probabilities(111))}, "rows must sum to 1"),
        ({**PROBE, "Test.npy": npy(probabilities(5)), "Test_fingerprint.npy": npy(np.array("g" * 64))}, "no SHA-256"),
        ({**PROBE, "Test.npy": npy(probabilities(5)), "Test_fingerprint.npy": npy(np.array("a"))}, "not an array"),
    ],
)
def test_foreign_content_is_refused(tmp_path: Path, entries: dict[str, bytes], reason: str) -> None:
    write_entries(tmp_path, entries)
    with pytest.raises(BundleError, match=reason) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    write_entries(tmp_path, {"probe.npy": npy(probabilities(111)) + bytes(64 << 20)})
    assert (tmp_path / OUTPUTS_FILE).stat().st_size < 1 << 20
    with pytest.raises(BundleError, match="more than its header says"):
        load(tmp_path)


def test_a_file_that_is_too_large_is_not_read(whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / OUTPUTS_FILE).write_bytes(whole)
    monkeypatch.setattr(reference_predictions, "MAX_BYTES", len(whole) - 1)
    with pytest.raises(BundleError, match="at most"):
        load(tmp_path)


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_damage_is_one_error_or_changes_nothing(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / OUTPUTS_FILE).write_bytes(content[: data.draw(st.integers(0, len(whole)))])
    with suppress(BundleError):
        np.testing.assert_array_equal(load(folder).probe, probabilities(111))


def test_a_changed_file_is_refused_by_its_hash(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / OUTPUTS_FILE).write_bytes(whole)
    artefact = describe_file(tmp_path, OUTPUTS_FILE, "outputs", "fp32", {})
    bundle = Bundle(tmp_path, "test", "0" * 64, (dataclasses.replace(artefact, sha256="1" * 64),))
    with pytest.raises(BundleError, match="SHA-256 differs"):
        read_outputs(bundle)
