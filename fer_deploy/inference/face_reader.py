"""Pictures of faces and photos with faces in them: which is which, and from a photo to the faces cut out of it.

``--face crop`` takes every picture as a face. ``detect`` looks for faces in every picture. ``auto`` takes as a face
what is about square and no larger than ``CROP_SIDE``, as cut-out faces are and photos are not, and looks for faces in
the rest; where what finds faces is not installed it takes all as ``crop`` does, and the run's summary says so.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_deploy.errors import MissingDependencyError, UsageError
from fer_deploy.images.decode import Photo, decode_photo, photo_from_array
from fer_deploy.images.sources import Item, Readers
from fer_deploy.labels import IMAGE_SIZE

if TYPE_CHECKING:
    from fer_deploy.faces.catalogue import Chosen
    from fer_deploy.faces.detector import Detector
    from fer_deploy.faces.face import Face

CROP: Final = "crop"
DETECT: Final = "detect"
AUTO: Final = "auto"
MODES: Final = (AUTO, DETECT, CROP)
CROP_SIDE: Final = 256
"""Pixels: avatars and cut-out faces of all common data sets are smaller."""
_ABOUT_SQUARE: Final = 1.2


class Found(NamedTuple):
    """The faces of one photo.

    Args:
        strip: uint8 (48 * N, 48, 1): the faces as the network takes them, one below the other.
        faces: N of them, in the pixels of the upright picture.
    """

    strip: NDArray[np.uint8]
    faces: tuple[Face, ...]


class PhotoReader:
    """Reads pictures for ``classify``: faces as they are, photos as what was found in them. Safe in any thread.

    Args:
        mode: ``auto`` or ``detect``.
        detector: What finds faces, or which (see ``faces.detectors.choose``); ``auto`` is loaded when the first photo
            comes, another one now.
        smallest: Side in pixels of the smallest face that is looked for; ``None`` for the detector's own.
        threads: Threads of the detector; ``None`` leaves it to the runtime.

    Attributes:
        missing: After an ``auto`` run: why photos were taken as faces, if some were; else None.
        chosen: Which detector was loaded; None if none was, or it was given.

    Raises:
        UsageError: There is no such mode, or ``smallest`` is too small.
        MissingDependencyError: ``detect`` without what finds faces.
        ModelError: The detector's file is damaged, or no detector's.
    """

    def __init__(
        self,
        mode: str,
        detector: Detector | str | os.PathLike[str] = AUTO,
        smallest: int | None = None,
        threads: int | None = None,
    ) -> None:
        if mode not in (AUTO, DETECT):
            raise UsageError(f"There is no way {mode!r} to take faces; there are: {', '.join(MODES)}")
        self.mode = mode
        self.missing: str | None = None
        self.chosen: Chosen | None = None
        self._detector: Detector | None = None
        self._which: str | os.PathLike[str] = AUTO
        if isinstance(detector, (str, os.PathLike)):
            self._which = detector
        else:
            self._detector = detector
        self._smallest, self._threads = smallest, threads
        self._loading = Lock()
        if mode == DETECT or self._which != AUTO:
            self.detector()

    @property
    def readers(self) -> Readers:
        """What ``Sources`` takes."""
        return Readers(self.file, self.array)

    def file(self, source: str | bytes) -> NDArray[np.uint8] | Found:
        """Reads a path or an encoded picture: uint8 (48, 48, 1) of a face, or what was found in a photo."""
        return self._look(decode_photo(source, self.is_face))

    def array(self, pixels: Any) -> NDArray[np.uint8] | Found:
        """Does the same with a decoded picture."""
        return self._look(photo_from_array(pixels, self.is_face))

    def live(self, pixels: Any) -> NDArray[np.uint8] | Found:
        """Does the same with all cores for one picture, as what comes live needs it."""
        from fer_deploy.faces.detector import LATENCY

        return self._look(photo_from_array(pixels, self.is_face), LATENCY)

    def find(self, item: Item) -> tuple[Photo, Found]:
        """Finds the faces of one photo, with all cores; errors are those of ``decode`` and ``detector``."""
        from fer_deploy.faces.detector import LATENCY

        detector = self.detector()
        photo: Any  # never a face, since nothing is said to be one
        if isinstance(item, np.ndarray):
            photo = photo_from_array(item, lambda width, height: False)
        else:
            photo = decode_photo(item, lambda width, height: False)
        return photo, find(photo, detector, LATENCY)

    def is_face(self, width: int, height: int) -> bool:
        """Tells whether a picture of that size is taken as a face."""
        if self.mode == DETECT:
            return False
        longer, shorter = max(width, height), min(width, height)
        if longer <= CROP_SIDE and longer <= _ABOUT_SQUARE * shorter:
            return True
        if self.missing is None and self._detector is None:
            try:
                self.detector()
            except MissingDependencyError as error:
                self.missing = str(error)
        return self.missing is not None

    def detector(self) -> Detector:
        """Gives the detector, loaded by now.

        Raises:
            FerDeployError: See ``faces.detectors``.
        """
        with self._loading:
            if self._detector is None:
                from fer_deploy.faces.catalogue import choose, load

                self.chosen = choose(self._which)
                self._detector = load(self.chosen, self._smallest, self._threads)
            return self._detector

    def _look(self, image: NDArray[np.uint8] | Photo, hint: str = "") -> NDArray[np.uint8] | Found:
        if not isinstance(image, Photo):
            return image
        from fer_deploy.faces.detector import THROUGHPUT

        return find(image, self.detector(), hint or THROUGHPUT)


def photo_reader(face: str, detector: str, smallest: int | None, threads: int | None) -> PhotoReader | None:
    """Makes what a command's options ask for; None where nothing looks for faces. Arguments are ``PhotoReader``'s.

    Raises:
        UsageError: A detector is named, and nothing is to be looked for.
    """
    if face != CROP:
        return PhotoReader(face, detector, smallest, threads)
    if detector != AUTO:
        raise UsageError(f"--detector {detector} looks for faces, and --face crop does not: leave one of them out")
    return None


def find(photo: Photo, detector: Detector, hint: str) -> Found:
    """Finds a photo's faces, the surest first, and cuts them out.

    Args:
        photo: The picture.
        detector: What finds them.
        hint: See ``Detector.detect``.
    """
    from PIL import Image

    from fer_deploy.faces.align import crop_face

    faces = detector.detect(photo.pixels, hint)
    if not faces:
        return Found(np.zeros((0, IMAGE_SIZE, 1), np.uint8), ())
    gray = np.asarray(Image.fromarray(photo.pixels).convert("L"))
    strip = np.concatenate([crop_face(gray, face) for face in faces])
    return Found(strip, tuple(face.scaled(photo.scale) for face in faces))
