"""What only OpenVINO has: reduced precisions, and its cache of compiled models."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fer_deploy.backends.openvino import shared_core
from fer_deploy.backends.select import open_backend
from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.errors import BackendError
from fer_deploy.system.files import KEEP, cache_folder

openvino = pytest.importorskip("openvino")
IMAGES = np.random.default_rng(0).integers(0, 256, (64, 48, 48, 1), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder("openvino")


def classify(bundle: Bundle, precision: str = "fp32") -> np.ndarray:
    with open_backend(bundle, "openvino", precision) as backend:
        return backend.run(IMAGES)


@pytest.fixture
def int8_bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """The tiny model, quantised by ONNX Runtime with random pictures for calibration."""
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        batches = iter([{"image": IMAGES}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    (tmp_path / "fp32.onnx").write_bytes(tiny_bundle.read("onnx"))
    quantization.quantize_static(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", Reader(), per_channel=True)
    return replace(tiny_bundle, path=tmp_path, artefacts=(describe_file(tmp_path, "int8.onnx", "onnx", "int8", {}),))


def test_bf16_where_the_cpu_has_it(tiny_bundle: Bundle) -> None:
    if "BF16" in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with open_backend(tiny_bundle, "openvino", "bf16") as backend:
            assert backend.effective == "bf16"
            np.testing.assert_allclose(backend.run(IMAGES), classify(tiny_bundle), atol=0.1)
    else:
        with pytest.raises(BackendError, match="no bf16 on this CPU"):
            open_backend(tiny_bundle, "openvino", "bf16")


@pytest.mark.filterwarnings("ignore")
def test_int8_is_seen_in_the_compiled_graph(int8_bundle: Bundle, tiny_bundle: Bundle) -> None:
    for _ in ("compiled", "from the cache"):
        with open_backend(int8_bundle, "openvino", "int8") as backend:
            assert backend.effective == "int8"
            np.testing.assert_allclose(backend.run(IMAGES), classify(tiny_bundle), atol=0.3)


def test_an_int8_name_on_a_float_file_is_refused(tiny_bundle: Bundle) -> None:
    artefact = tiny_bundle.find("onnx")
    assert artefact is not None
    mislabelled = replace(tiny_bundle, artefacts=(replace(artefact, precision="int8"),))
    with pytest.raises(BackendError, match="computes the int8 model in fp32"):
        open_backend(mislabelled, "openvino", "int8")


def test_the_cache_is_filled_used_and_private(tiny_bundle: Bundle, cache: Path) -> None:
    first = classify(tiny_bundle)
    (blob,) = cache.iterdir()
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    written = blob.stat().st_ino
    np.testing.assert_array_equal(classify(tiny_bundle), first)
    assert blob.stat().st_ino == written
    with open_backend(tiny_bundle, "openvino", threads=1):
        assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("where", [0, 40, -100])
def test_a_damaged_blob_is_made_again(tiny_bundle: Bundle, cache: Path, where: int) -> None:
    first = classify(tiny_bundle)
    (blob,) = cache.iterdir()
    sound = blob.read_bytes()
    damaged = bytearray(sound)
    damaged[where] ^= 255
    for content in (bytes(damaged), sound[: len(sound) // 2], b""):
        blob.write_bytes(content)
        np.testing.assert_array_equal(classify(tiny_bundle), first)
    digest, remade = blob.read_bytes()[:32], blob.read_bytes()[32:]
    assert hashlib.sha256(remade).digest() == digest


def test_an_unusable_cache_is_harmless(tiny_bundle: Bundle, cache: Path) -> None:
    cache.parent.parent.mkdir(parents=True)
    cache.parent.write_text("a file where the folder should be")
    assert classify(tiny_bundle).shape == (64, 7)


def test_old_blobs_go(tiny_bundle: Bundle, cache: Path) -> None:
    cache.mkdir(parents=True)
    for age in range(KEEP + 5):
        (cache / f"{age}.blob").touch()
        os.utime(cache / f"{age}.blob", (1e9 - age, 1e9 - age))
    classify(tiny_bundle)
    assert len(list(cache.iterdir())) == KEEP
    assert not (cache / f"{KEEP + 4}.blob").exists()


def test_processes_that_start_together(tiny_bundle: Bundle, cache: Path) -> None:
    program = f"""
import numpy as np
from fer_deploy import Classifier
with Classifier.load({str(tiny_bundle.path)!r}) as classifier:
    print(classifier.predict(np.zeros((1, 48, 48), np.uint8))[0].confidence)
"""
    started = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    predictions = [process.communicate()[0] for process in started]
    assert len(set(predictions)) == 1
    assert [process.returncode for process in started] == [0] * 4
    assert len(list(cache.iterdir())) == 1


def test_where_batches_come_slowly_answers_do_not_wait_for_later_ones(tiny_bundle: Bundle) -> None:
    came = threading.Event()

    def batches() -> Iterator[np.ndarray]:
        for number in range(12):
            time.sleep(0.05)
            assert number < 4 or came.wait(10)
            yield IMAGES[number : number + 4]

    with open_backend(tiny_bundle, "openvino") as backend:
        predictions = []
        for prediction in backend.run_stream(batches()):
            predictions.append(prediction)
            came.set()
        expected = backend.run(IMAGES)
    assert len(predictions) == 12
    for number, prediction in enumerate(predictions):
        assert prediction == pytest.approx(expected[number : number + 4], abs=1e-5)


def test_one_thread_computes_the_same(tiny_bundle: Bundle) -> None:
    with open_backend(tiny_bundle, "openvino", threads=1) as backend:
        np.testing.assert_allclose(backend.run(IMAGES), classify(tiny_bundle), atol=1e-6)


def test_openvino_comes_without_its_converter_until_that_is_asked_for(tiny_bundle: Bundle) -> None:
    code = """
import sys
from fer_deploy import Classifier
with Classifier.load(sys.argv[1]):
    import openvino
    assert "openvino.tools.ovc" not in sys.modules
    assert not hasattr(openvino, "nonsense")
    from openvino import convert_model
    assert callable(convert_model)
"""
    subprocess.run([sys.executable, "-c", code, str(tiny_bundle.path)], check=True)


def test_two_processes_that_start_at_once_share_the_cache(tiny_bundle: Bundle, cache: Path) -> None:
    code = """
import sys, numpy
from fer_deploy import Classifier
sys.stdin.readline()
for turn in range(5):
    with Classifier.load(sys.argv[1], "openvino", "fp32") as classifier:
        found = classifier.backend.run(numpy.full((1, 48, 48, 1), 100, numpy.uint8))
print(found.tobytes().hex())
"""
    command = [sys.executable, "-c", code, str(tiny_bundle.path)]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    predictions = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], predictions
    assert predictions[0] == predictions[1]
    assert [path.suffix for path in cache.iterdir()] == [".blob"]  # whole, and nothing left half-written


def test_signals_still_come_after_two_were_closed_in_the_order_of_their_opening(tiny_bundle: Bundle) -> None:
    code = """
import faulthandler, signal, sys, time
from fer_deploy.backends.select import open_backend
from fer_deploy.bundle.manifest import Bundle
faulthandler.enable()  # gives the thread an alternate stack, as pytest and many servers do
first, second = (open_backend(Bundle.load(sys.argv[1]), "openvino", "fp32") for _ in range(2))
first.close()
second.close()
del first, second
came = []
signal.signal(signal.SIGALRM, lambda number, frame: came.append(number))
signal.setitimer(signal.ITIMER_REAL, 0.01)
time.sleep(0.1)
print(len(came))
"""
    done = subprocess.run([sys.executable, "-c", code, tiny_bundle.path], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr
