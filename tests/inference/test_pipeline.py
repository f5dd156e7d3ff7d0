from __future__ import annotations

import itertools
import shutil
import signal
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_deploy.backends.base import Backend, Images, Probabilities
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import ImageError
from fer_deploy.faces.face import Face
from fer_deploy.images.sources import Source, Sources
from fer_deploy.inference import prefetch
from fer_deploy.inference.face_reader import Found
from fer_deploy.inference.pipeline import classify
from fer_deploy.inference.prediction import Prediction
from fer_deploy.inference.prefetch import decode_ahead


class Arithmetic(Backend):
    """A backend of its own right, so exact that a row that is lost or in a wrong place shows: says the first pixel."""

    name, install, precisions = "arithmetic", (), ("fp32",)

    def _load(self) -> None:
        self.sizes: list[int] = []

    def _infer(self, batch: Images) -> Probabilities:
        self.sizes.append(len(batch))
        probabilities = np.zeros((len(batch), 7), np.float32)
        probabilities[:, 0] = batch[:, 0, 0, 0]
        return probabilities

    def _unload(self) -> None:
        pass


@pytest.fixture
def backend() -> Iterator[Arithmetic]:
    nothing = Bundle(Path(), "", "", ())
    with Arithmetic(nothing) as opened:
        yield opened


@pytest.fixture
def takes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Stops each thread's clock for ``decoding`` and returns a function that moves the caller's on by some seconds."""
    clock = threading.local()

    def move(seconds: float) -> None:
        clock.now = getattr(clock, "now", 0.0) + seconds

    monkeypatch.setattr(prefetch, "perf_counter", lambda: getattr(clock, "now", 0.0))
    return move


def image(value: int, delay_s: float = 0) -> Source:
    def read() -> Images:
        time.sleep(delay_s)
        return np.full((48, 48, 1), value, np.uint8)

    return Source(str(value), read)


def bad(name: str, error: BaseException) -> Source:
    def read() -> Images:
        raise error

    return Source(name, read)


def flat(groups: Iterator[list[Prediction]]) -> list[Prediction]:
    return [prediction for group in groups for prediction in group]


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_order_is_kept_and_nothing_lost(backend: Arithmetic, batch_size: int) -> None:
    rng = np.random.default_rng(batch_size)
    sources = [
        bad(f"bad {value}", ImageError("no")) if value % 10 == 3 else image(value, float(rng.uniform(0, 0.003)))
        for value in range(250)
    ]
    found = flat(classify(iter(sources), backend, batch_size, workers=5))
    assert [prediction.path for prediction in found] == [source.name for source in sources]
    for value, prediction in enumerate(found):
        if value % 10 == 3:
            assert (prediction.status, prediction.reason, prediction.emotion) == ("error", "no", None)
        else:
            assert (prediction.status, prediction.probabilities[0]) == ("ok", value)
    assert set(backend.sizes[:-1]) <= {batch_size}


def test_faces_of_photos_come_before_a_batch_is_full(backend: Arithmetic) -> None:
    came = threading.Event()

    def photo(value: int, wait: bool) -> Source:
        def read() -> Found:
            time.sleep(0.1)
            assert not wait or came.wait(10)
            return Found(np.full((48, 48, 1), value, np.uint8), (Face((0, 0, 48, 48), 0.9),))

        return Source(str(value), read)

    found = []
    for group in classify((photo(value, value >= 8) for value in range(12)), backend, 64, workers=1):
        found += group
        came.set()
    assert [(row.path, row.status) for row in found] == [(str(value), "ok") for value in range(12)]
    assert 1 < len(backend.sizes) < 12


def test_no_source_gives_no_row(backend: Arithmetic) -> None:
    assert flat(classify(iter(()), backend)) == []
    assert backend.sizes == []


@pytest.mark.parametrize(
    "error", [MemoryError(), struct.error("unpack requires 4 bytes"), RecursionError("deep"), OSError(5, "I/O error")]
)
def test_whatever_a_decoder_raises_costs_one_row(backend: Arithmetic, error: Exception) -> None:
    before, failed, after = flat(classify([image(1), bad("x", error), image(2)], backend))
    assert (before.probabilities[0], after.probabilities[0]) == (1, 2)
    assert failed.status == "error"
    assert failed.reason.startswith(type(error).__name__)


def test_only_bad_sources_still_flow_in_bounded_memory(backend: Arithmetic) -> None:
    drawn = 0

    def sources() -> Iterator[Source]:
        nonlocal drawn
        for index in range(5000):
            drawn += 1
            yield bad(str(index), ImageError("no"))

    groups = classify(sources(), backend, batch_size=4, workers=2)
    rows = 0
    for group in groups:
        rows += len(group)
        assert drawn - rows < 100
    assert rows == 5000


def test_the_window_bounds_what_is_read_ahead() -> None:
    drawn = 0

    def sources() -> Iterator[Source]:
        nonlocal drawn
        for value in range(200):
            drawn += 1
            yield image(value % 250)

    decoded = decode_ahead(sources(), workers=3, window=10)
    for taken, _ in enumerate(decoded):
        assert drawn <= taken + 10
    assert drawn == 200


def test_decoding_goes_on_while_the_consumer_works() -> None:
    started = threading.Event()

    def read() -> Images:
        started.set()
        return np.zeros((48, 48, 1), np.uint8)

    decoded = decode_ahead([image(0), Source("next", read)], workers=1, window=2)
    next(decoded)
    assert started.wait(5)
    decoded.close()


def test_a_handful_of_pictures_keeps_all_threads_busy() -> None:
    together = threading.Barrier(4, timeout=5)

    def read() -> Images:
        together.wait()
        return np.zeros((48, 48, 1), np.uint8)

    decoded = list(decode_ahead([Source(str(n), read) for n in range(4)], workers=4, window=136))
    assert [each.reason for each in decoded] == [""] * 4


def test_what_was_handed_over_together_is_not_read_to_the_end_when_the_run_is_left(
    takes: Callable[[float], None],
) -> None:
    started: list[int] = []

    def source(number: int) -> Source:
        def read() -> Images:
            takes(0.001)  # so long that the thread reads all of them
            if number >= 100:
                started.append(number)
                time.sleep(0.05)
            return np.zeros((48, 48, 1), np.uint8)

        return Source(str(number), read)

    decoded = decode_ahead(map(source, range(200)), workers=1, window=64)  # 96 to 103 are handed over together
    for _ in range(100):
        next(decoded)
    decoded.close()
    assert 4 <= len(started) < 8


def test_small_pictures_are_read_by_the_caller_and_big_ones_by_threads(takes: Callable[[float], None]) -> None:
    readers: list[str] = []

    def source(value: int, delay_s: float) -> Source:
        def read() -> Images:
            takes(delay_s)
            readers.append(threading.current_thread().name)
            return np.full((48, 48, 1), value, np.uint8)

        return Source(str(value), read)

    delays_s = [0.0] * 400 + [0.002] * 100 + [0.0] * 400
    sources = [source(value % 250, delay_s) for value, delay_s in enumerate(delays_s)]
    decoded = list(decode_ahead(sources, workers=2, window=64))
    assert [each.name for each in decoded] == [each.name for each in sources]
    here = threading.current_thread().name
    assert readers[0] != here  # nothing is known of the first ones yet
    assert readers[:400].count(here) > 200
    assert readers[420:500].count(here) == 0
    assert readers[500:].count(here) > 200


def test_a_single_long_one_among_small_ones_sends_the_next_to_threads(takes: Callable[[float], None]) -> None:
    delays_s = [0.0] * 100 + [0.03] + [0.0] * 4
    where: list[int] = []

    def source(delay_s: float) -> Source:
        def read() -> Images:
            where.append(threading.get_ident())
            takes(delay_s)
            return np.zeros((48, 48, 1), np.uint8)

        return Source("", read)

    assert len(list(decode_ahead(map(source, delays_s), workers=2, window=64))) == len(delays_s)
    assert where[100] == threading.get_ident()
    assert threading.get_ident() not in where[101:]


def test_threads_end_when_the_run_is_left(backend: Arithmetic) -> None:
    before = threading.active_count()
    groups = classify((image(value % 250, 0.001) for value in range(10_000)), backend, batch_size=4)
    next(groups)
    groups.close()
    assert threading.active_count() == before


def test_an_interrupt_ends_cleanly(backend: Arithmetic) -> None:
    before = threading.active_count()

    def sources() -> Iterator[Source]:
        yield from (image(value) for value in range(200))
        raise KeyboardInterrupt

    groups: list[list[Prediction]] = []
    with pytest.raises(KeyboardInterrupt):
        groups.extend(classify(sources(), backend, batch_size=8, workers=2))
    assert len(groups) > 10
    assert threading.active_count() == before


def test_interrupts_at_any_moment(backend: Arithmetic) -> None:
    """A signal can hit between any two instructions; it must neither hang the run nor get lost."""
    before = threading.active_count()
    rng = np.random.default_rng(0)
    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(60):
            endless = (image(value % 250) for value in itertools.count())
            signal.setitimer(signal.ITIMER_REAL, float(rng.uniform(0.005, 0.03)))
            with pytest.raises(KeyboardInterrupt):
                deque(classify(endless, backend, batch_size=4, workers=2), maxlen=0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    until = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)  # a thread that had just been started when the interrupt came ends by itself
    assert threading.active_count() == before


def test_a_folder_that_goes_away(backend: Arithmetic, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for value in range(40):
            Image.new("L", (48, 48), value).save(tmp_path / name / f"{value:02}.png")
    groups = classify(Sources([tmp_path]), backend, batch_size=2, workers=1)
    found = next(groups)
    shutil.rmtree(tmp_path / "b")
    found += flat(groups)
    assert [prediction.status for prediction in found[:40]] == ["ok"] * 40
    assert [prediction.probabilities[0] for prediction in found[:40]] == list(range(40))
    assert {(prediction.path, prediction.reason) for prediction in found[40:]} <= {
        (str(tmp_path / "b"), "no such file")
    }
