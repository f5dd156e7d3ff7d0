"""How a network is best shown a picture: what differs between networks in the two looks of ``search``.

A detector's ONNX file, run by OpenVINO, which every installation has, at any picture size.

The file is compiled once, with its sizes left open, and the compiled model is kept on disk like the classifier's. The
first picture of each new size costs about twice its time.

Finds the faces of a picture in two looks: where might one be, and is it one.

The first look sees the picture reduced so far that the smallest face still shows, and takes everything that is faintly
like a face. The second sees each such place by itself, enlarged or reduced to the size at which the network is surest,
the places of a picture as batches of equal tiles. What one of the two is sure enough of is a face. So a photo costs
less than one look at its full size, and small faces are found that this would miss. What suits a network is its
``Sight``; ``benchmarks/faces.py`` measures it.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from fer_deploy.backends.openvino import compile_cached, shared_core
from fer_deploy.bundle.onnx_file import check_onnx, output_names
from fer_deploy.errors import ImageError, ModelError, one_line
from fer_deploy.faces.face import Candidates, Face

if TYPE_CHECKING:
    from PIL import Image

LATENCY: Final = "LATENCY"
THROUGHPUT: Final = "THROUGHPUT"
SMALLEST: Final = 20
"""Pixels of the picture that the smallest face has which is looked for, unless the picture is too large for that."""
FIRST_SIDE: Final = 1280
"""The longest side of what the first look sees; in larger pictures the smallest face is larger in proportion."""
_INSIDE: Final = 0.7
_LEAST: Final = 0.7  # of the smallest face: what is found smaller than that was not looked for, and is none
_MOST: Final = 256  # candidates per picture; a photo of a crowd has a hundred
_BATCH: Final = 16  # tiles; more at once are no faster
_GRID: Final = 64  # sides are filled up to multiples of it, so that few sizes occur; the networks need 32


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """Settings of the two looks; ``benchmarks/faces.py`` measures them, and they were chosen by it on PublicTest.

    Args:
        first_face: Pixels that the smallest face keeps in the first look.
        first_floor: The least score of a place that is looked at again.
        tile: Side in pixels of what the second look sees of a place, a multiple of 32.
        tile_face: Pixels of the face in it: those at which the network is surest.
        threshold: The least score of a face, in either look.
    """

    first_face: int
    first_floor: float
    tile: int
    tile_face: int
    threshold: float


CENTERFACE: Final = DetectorSettings(first_face=12, first_floor=0.03, tile=128, tile_face=80, threshold=0.14)


YUNET: Final = DetectorSettings(first_face=20, first_floor=0.1, tile=192, tile_face=128, threshold=0.5)


class Network:
    """A compiled detector; ``run`` may be called from several threads at once.

    Args:
        content: The ONNX file: one input of pictures (N, 3, H, W).
        what: How errors name it.
        threads: Threads of the runtime; None leaves it to OpenVINO.

    Attributes:
        outputs: The names of the file's outputs, in its order.
        precision: ``bf16`` where the CPU computes in it (twice as fast, and as many faces found), else ``fp32``;
            always ``fp32`` around the layers of an 8-bit file.

    Raises:
        ModelError: OpenVINO cannot read the file, or it is no such network.
    """

    def __init__(self, content: bytes, what: str, threads: int | None = None) -> None:
        check_onnx(content, what)
        self.outputs = output_names(content)
        self._core = shared_core()
        self._content, self.what, self._threads = content, what, threads
        can = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        # OpenVINO 2026.4 finds no kernel for some 8-bit layers with bf16 around them
        quantised = b"QuantizeLinear" in content
        self.precision = "bf16" if "BF16" in can and not quantised else "fp32"
        self._lock = threading.Lock()
        self._compiled: dict[str, Any] = {}
        self._idle: dict[str, deque[Any]] = {LATENCY: deque(), THROUGHPUT: deque()}

    def run(self, images: NDArray[np.float32], hint: str = LATENCY) -> list[NDArray[np.float32]]:
        """Runs pictures of one size.

        Args:
            images: float32 (N, 3, H, W), C-contiguous.
            hint: ``LATENCY`` where nothing else runs: all cores for this call; ``THROUGHPUT`` where other threads
                call, too.

        Returns:
            One array per output, float32, in the order of ``outputs``.
        """
        model, idle = self._model_for(hint), self._idle[hint]
        try:
            request = idle.pop()
        except IndexError:
            request = model.create_infer_request()
        request.infer({0: images}, share_inputs=True)
        found = [request.get_output_tensor(index).data.copy() for index in range(len(self.outputs))]
        idle.append(request)
        return found

    def _model_for(self, hint: str) -> Any:
        if hint not in self._compiled:
            with self._lock:
                if hint not in self._compiled:
                    self._compiled[hint] = self._compile(hint)
        return self._compiled[hint]

    def _compile(self, hint: str) -> Any:
        config = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": "bf16" if self.precision == "bf16" else "f32"}
        if self._threads:
            config["INFERENCE_NUM_THREADS"] = str(self._threads)
        try:
            model = compile_cached(self._core, self._content, config, shape=(-1, 3, -1, -1))
        except RuntimeError as error:
            raise ModelError(f"{self.what} is no face detector that OpenVINO can run: {one_line(error)}") from error
        return model

    def open(self) -> Network:
        """Compiles now what ``run`` would compile first."""
        self._model_for(LATENCY)
        return self


class FaceNetwork(ABC):
    """A known network that scores places in pictures, ready to look at them.

    Args:
        content: The ONNX file.
        threads: Threads of the runtime; None leaves it to OpenVINO.
        what: How errors name it; None for ``file``.

    Attributes:
        name: What the command line calls it.
        file: What its file is called.
        sight: How it is best shown a picture.
        outputs: Which outputs its file has, for errors.

    Raises:
        ModelError: It is another file.
    """

    name: str
    file: str
    sight: DetectorSettings
    outputs: str

    def __init__(self, content: bytes, threads: int | None = None, what: str | None = None) -> None:
        what = what or self.file
        self.network = Network(content, what, threads)
        if not self.is_one(self.network.outputs):
            count = len(self.network.outputs)
            raise ModelError(f"{what} has {count} outputs; {type(self).__name__} has {self.outputs}")
        self.network.open()

    @staticmethod
    @abstractmethod
    def is_one(outputs: Sequence[str]) -> bool:
        """Tells from the names of a file's outputs whether it is one."""

    @abstractmethod
    def look(self, images: NDArray[np.uint8], floor: float, hint: str = LATENCY) -> list[Candidates]:
        """Looks at pictures of one size.

        Args:
            images: uint8 (N, H, W, 3), RGB, H and W multiples of 32.
            floor: The least score that counts.
            hint: See ``Network.run``.

        Returns:
            Each picture's candidates, overlapping ones still among them.
        """


def as_input(images: NDArray[np.uint8], blue_first: bool = False) -> NDArray[np.float32]:
    """Turns RGB pictures, uint8 (N, H, W, 3), into float32 (N, 3, H, W), 0..255."""
    ordered = images[..., ::-1] if blue_first else images
    return np.ascontiguousarray(ordered.transpose(0, 3, 1, 2), dtype=np.float32)


class Detector(ABC):
    """What finds faces: all that the rest of fer-deploy knows of a detector.

    ``detect`` may be called from several threads at once.
    """

    name: ClassVar[str] = ""

    @abstractmethod
    def detect(self, image: NDArray[np.uint8], hint: str = LATENCY) -> list[Face]:
        """Finds the faces of a picture.

        Args:
            image: uint8 (H, W, 3) as RGB, or (H, W) gray; upright.
            hint: ``THROUGHPUT`` where several threads look at pictures, else ``LATENCY``.

        Returns:
            The faces, from the surest to the least sure.

        Raises:
            ImageError: It is no such array.
        """


class DetectorNetwork(Protocol):
    """A network that scores places in pictures; ``CenterFace`` and ``YuNet`` are such."""

    name: str
    sight: DetectorSettings

    def look(self, images: NDArray[np.uint8], floor: float, hint: str = LATENCY) -> list[Candidates]:
        """Looks at pictures, uint8 (N, H, W, 3) as RGB with sides that are multiples of 32."""


class TwoStageDetector(Detector):
    """Finds faces as this module's text describes.

    Args:
        network: What looks.
        smallest: Side in pixels of the smallest face that is looked for, at least 8; larger is faster.
        threshold: The least score of a face, 0..1; None for what suits the network.
        sight: How the network is shown pictures; None for what suits it.
    """

    name = "two-looks"

    def __init__(
        self,
        network: DetectorNetwork,
        smallest: int = SMALLEST,
        threshold: float | None = None,
        sight: DetectorSettings | None = None,
    ) -> None:
        self.network, self.smallest, self.sight = network, smallest, sight or network.sight
        self.threshold = self.sight.threshold if threshold is None else threshold

    def detect(self, image: NDArray[np.uint8], hint: str = LATENCY) -> list[Face]:
        """See ``Detector.detect``."""
        opened = _as_image(image)
        return self.second_look(opened, self.first_look(opened, hint), hint).faces()

    def first_look(self, image: Image.Image, hint: str = LATENCY) -> Candidates:
        """Gives the places that may be faces, in the picture's pixels, at most 256."""
        reduced = _scaled(image, self._scale(image))
        width, height = (-(-side // _GRID) * _GRID for side in reduced.size)
        canvas = np.zeros((1, height, width, 3), np.uint8)
        canvas[0, : reduced.height, : reduced.width] = np.asarray(reduced)
        (found,) = self._look(canvas, self.sight.first_floor, hint)
        return found.distinct(most=_MOST).moved(image.width / reduced.width)

    def _scale(self, image: Image.Image) -> float:
        return min(self.sight.first_face / self.smallest, FIRST_SIDE / max(image.size), 1.0)

    def second_look(self, image: Image.Image, first: Candidates, hint: str = LATENCY) -> Candidates:
        """Scores places again, each by itself; gives those that are faces, the surest first."""
        if not len(first):
            return first
        tiles, places = zip(*(_tile(image, box, self.sight) for box in first.boxes), strict=True)
        sure = [first.take(first.scores >= self.threshold)]
        for start in range(0, len(tiles), _BATCH):
            seen = self._look(np.stack(tiles[start : start + _BATCH]), self.threshold, hint)
            for found, (left, upper, scale) in zip(seen, places[start : start + _BATCH], strict=True):
                sure.append(_in_the_middle(found, self.sight).moved(scale, left, upper))
        found = Candidates.joined(sure)
        least = _LEAST * self.sight.first_face / self._scale(image)
        # too small ones go first: one inside a face, scored higher, would take the face's place
        return found.take(found.boxes[:, 2:].max(axis=1, initial=0) >= least).distinct(_INSIDE)

    def _look(self, images: NDArray[np.uint8], floor: float, hint: str) -> list[Candidates]:
        """Has the network look, and leaves out boxes that no face can have, as a damaged network gives them."""
        most = 2 * max(images.shape[1:3])
        seen = self.network.look(images, floor, hint)
        return [found.take((np.abs(found.boxes) <= most).all(axis=1)) for found in seen]


def _as_image(image: Any) -> Image.Image:
    from PIL import Image

    array = np.asarray(image)
    if array.dtype != np.uint8 or not array.size or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
        raise ImageError(f"an array of {array.dtype} {array.shape}; faces are looked for in uint8 (H, W, 3) or (H, W)")
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    from PIL import Image

    if scale == 1:
        return image
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def _tile(
    image: Image.Image, box: NDArray[np.float32], sight: DetectorSettings
) -> tuple[NDArray[np.uint8], tuple[int, int, float]]:
    """Cuts a square with the box in its middle, black beyond the edge; and where it lies and its scale."""
    from PIL import Image

    tile = sight.tile
    side = max(8, round(float(max(box[2:])) * tile / sight.tile_face))
    left, upper = (round(float(middle) - side / 2) for middle in box[:2] + box[2:] / 2)
    cut = image.crop((left, upper, left + side, upper + side))
    if side != tile:
        cut = cut.resize((tile, tile), Image.Resampling.BICUBIC if side < tile else Image.Resampling.BILINEAR)
    return np.asarray(cut), (left, upper, side / tile)


def _in_the_middle(found: Candidates, sight: DetectorSettings) -> Candidates:
    """Takes the best whose middle lies near the tile's; others have tiles of their own."""
    away = np.abs(found.boxes[:, :2] + found.boxes[:, 2:] / 2 - sight.tile / 2).max(axis=1, initial=0)
    near = found.take(away < sight.tile_face / 3)
    return near.take([int(near.scores.argmax())] if len(near) else [])
