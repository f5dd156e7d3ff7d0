"""Pictures and rows that a report is made of."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_deploy.data.probe import probe_images
from fer_deploy.inference.prediction import Prediction

HOSTILE = [
    "</script><script>document.title='owned'</script>.png",
    "<img src=x onerror=alert(1)>.png",
    "quote \" and ' &amp;.png",
    "new\nline \u2028 and \u2029.png",
    "$data ${style} {{x}}.png",
    os.fsdecode(b"caf\xe9.png"),
    "javascript:alert(1).png",
]


def chances(rng: np.random.Generator) -> np.ndarray:
    return rng.dirichlet(np.full(7, 0.35)).astype(np.float32)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn faces in two folders and an archive, some under names that try to break out."""
    root = tmp_path_factory.mktemp("photos")
    faces = probe_images()[..., 0]
    for index in range(300):
        folder = root / ("beach", "party")[index % 2]
        folder.mkdir(exist_ok=True)
        image = Image.fromarray(faces[index % len(faces)])
        image.resize((96, 96)).save(folder / f"{index:03}.png")
    for index, name in enumerate(HOSTILE):
        if "/" not in name:
            Image.fromarray(faces[index]).save(root / name)
    with zipfile.ZipFile(root / "old.zip", "w") as archive:
        for index in range(4):
            archive.write(root / "beach" / f"{2 * index:03}.png", f"1999/{index}.png")
    return root


@pytest.fixture(scope="session")
def rows(photos: Path) -> list[Prediction]:
    """One row each, then failures, pictures without a face, two faces of one picture, and a clip's moments."""
    rng = np.random.default_rng(0)
    paths = [str(path) for folder in ("beach", "party") for path in sorted((photos / folder).iterdir())]
    paths += [f"{photos}/{name}" for name in HOSTILE]
    paths += [f"{photos}/old.zip/1999/{index}.png" for index in range(4)]
    made = [Prediction.of(path, chances(rng)) for path in paths]
    made += [Prediction.failed(f"{photos}/bad <b>{index}</b>.png", "truncated image & more") for index in range(3)]
    made += [Prediction.of_no_face(f"{photos}/landscape {index}.jpg") for index in range(2)]
    for face in range(2):
        found = Prediction.of(paths[0], chances(rng))
        made.append(
            Prediction(
                *(found.path, found.emotion, found.confidence, found.probabilities),
                face=face,
                box=(10.0 + 30 * face, 20.0, 40.0, 44.0),
                face_score=0.9,
            )
        )
    for frame in range(40):
        found = Prediction.of(f"{photos}/clip.mp4", chances(rng))
        made.append(
            Prediction(
                *(found.path, found.emotion, found.confidence, found.probabilities),
                face=0,
                box=(1.0, 2.0, 30.0, 30.0),
                face_score=0.8,
                time_s=frame * 5.0,
                frame=frame * 125,
                track=1,
            )
        )
    return made
