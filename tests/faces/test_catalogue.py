from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.errors import MissingDependencyError, ModelError, UsageError
from fer_deploy.faces import catalogue, networks
from fer_deploy.faces.catalogue import choose, load

Build = Callable[..., bytes]


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(networks, "_CARRIER", "a-package-that-nobody-has")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def yunet_there(nothing_installed: None, yellow_grids: Build, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file is where fetch puts one, and its hash is the one that is asked for."""
    content = yellow_grids()
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(catalogue, "YUNET", replace(catalogue.YUNET, size_bytes=len(content), sha256=digest))
    path = catalogue.YUNET.path
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_a_files_outputs_tell_which_network_it_is(bright_spots: Build, yellow_grids: Build, tmp_path: Path) -> None:
    for name, content in {"centerface": bright_spots(), "yunet": yellow_grids()}.items():
        path = tmp_path / f"some-{name}.onnx"
        path.write_bytes(content)
        chosen = choose(path)
        assert (chosen.network.name, chosen.what, chosen.why) == (name, str(path), "")
        assert chosen.label == f"{name} {hashlib.sha256(content).hexdigest()[:12]}"
        detector = load(chosen, smallest=40)
        assert (detector.network.name, detector.smallest, detector.sight) == (name, 40, chosen.network.sight)
        assert detector.detect(np.zeros((100, 100, 3), np.uint8)) == []


def test_what_is_no_detector_is_refused_in_a_line(bright_spots: Build, yellow_grids: Build, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    known = r"centerface's 4 outputs \(scores, .*\) or yunet's 12 outputs \(cls_.*\)$"
    cases = {
        bright_spots(outputs=1): r"x\.onnx has 1 output \(scores\); what finds faces here has " + known,
        yellow_grids(names=("a", "b")): r"x\.onnx has 12 outputs \(cls_8, .*\.\.\.\); what finds faces here has "
        + known,
        b"": r"x\.onnx has 0 outputs; what finds faces here has " + known,
        b"no protobuf at all": r"x\.onnx is not an ONNX model, or is damaged",
    }
    for content, message in cases.items():
        path.write_bytes(content)
        with pytest.raises(ModelError, match=message) as raised:
            choose(path)
        assert "\n" not in str(raised.value)


def test_a_file_that_only_looks_like_one_is_refused_before_photos_come(yellow_grids: Build, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(yellow_grids(strides=(8, 16, 64)))
    with pytest.raises(ModelError, match=r"x\.onnx (gives|cannot be run)"):
        load(choose(path))


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no detector 'retinaface'; there are: auto, centerface, yunet, or an ONNX"):
        choose("retinaface")
    with pytest.raises(ModelError, match="is no file"):
        choose(tmp_path)
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ModelError, match="1,073,741,824 bytes; a detector has at most"):
        choose(tmp_path / "large.onnx")


@pytest.mark.usefixtures("nothing_installed")
def test_where_none_is_there_the_next_step_is_told() -> None:
    with pytest.raises(MissingDependencyError, match=r"pip install 'fer-deploy\[faces\]'; or .*fer-deploy fetch yunet"):
        choose("auto")
    with pytest.raises(MissingDependencyError, match=r"pip install 'fer-deploy\[faces\]'$"):
        choose("centerface")
    with pytest.raises(
        UsageError, match=r"yunet is not here \(.*No such file.*\)\. Get it with: fer-deploy fetch yunet"
    ):
        choose("yunet")


def test_auto_takes_what_was_fetched_where_nothing_is_installed_and_says_so(yunet_there: Path) -> None:
    chosen = choose()
    assert (chosen.network.name, chosen.why) == ("yunet", "CenterFace is not installed")
    assert choose("yunet").why == ""
    assert load(chosen).detect(np.zeros((50, 50), np.uint8)) == []


def test_a_fetched_file_that_was_changed_is_not_taken(yunet_there: Path) -> None:
    content = bytearray(yunet_there.read_bytes())
    content[-1] ^= 1
    yunet_there.write_bytes(content)
    for which in ("auto", "yunet"):
        with pytest.raises(ModelError, match=r"has the SHA-256 .* Get it again with: fer-deploy fetch yunet"):
            choose(which)
    yunet_there.write_bytes(b"short")
    assert not catalogue.YUNET.is_there()
    with pytest.raises(ModelError, match="has 5 bytes, and yunet has"):
        choose("yunet")


@pytest.mark.skipif(not networks.is_installed(), reason="CenterFace is not installed: pip install 'fer-deploy[faces]'")
def test_auto_takes_centerface_first() -> None:
    assert choose() == choose("centerface")
    assert choose().network.name == "centerface"
