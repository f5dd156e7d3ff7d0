"""The bundle: a folder with ``bundle.json`` and every form of one model, each with its hash.

The manifest is plain JSON so that other tools can read it. Loading validates it completely; a file is hashed
before it is handed to a runtime, so a damaged or exchanged model is refused rather than run.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from fer_deploy.bundle.onnx_file import check_onnx
from fer_deploy.bundle.records import Record, Tuned, parse_record, parse_tuned
from fer_deploy.bundle.shipped import ASSETS as ASSETS
from fer_deploy.bundle.shipped import DEFAULT, shipped_names
from fer_deploy.bundle.shipped import MANIFEST as MANIFEST
from fer_deploy.errors import BundleError, OutputError
from fer_deploy.labels import INPUT_SHAPE, LABELS

FORMAT_VERSION: Final = 1
MAX_MANIFEST_BYTES: Final = 4 << 20
MAX_FILE_BYTES: Final = 2 << 30
FORMATS: Final = ("keras", "onnx", "engine", "outputs")
PRECISIONS: Final = ("fp32", "fp16", "int8", "int8-trt")
_TARGET: Final = r"|sm\d{2,3}"


@dataclass(frozen=True)
class Artefact:
    """One file of a bundle.

    Args:
        file: Path relative to the bundle, with forward slashes.
        format: ``keras``, ``onnx``, ``engine`` (of TensorRT) or ``outputs`` (what Keras gave, as .npz).
        precision: ``fp32``, ``fp16``, ``int8`` or ``int8-trt``.
        size: Bytes.
        sha256: Hexadecimal digest of the file.
        made_with: How it was made (tool versions, opset, ...), for people to read.
        target: The compute capability that an engine was built for (``sm86``); empty for all that is portable.
    """

    file: str
    format: str
    precision: str
    size: int
    sha256: str
    made_with: Mapping[str, Any] = field(default_factory=dict)
    target: str = ""


@dataclass(frozen=True)
class Bundle:
    """A loaded manifest and the folder that it lies in.

    Args:
        path: The bundle's folder.
        name: What the model is called in tables.
        source_sha256: Digest of the Keras file that everything was made from; of the bundle's own where a temperature
            was put into it.
        artefacts: The bundle's files.
        training: What the model's training recorded of itself (recipe, data, accuracy), possibly empty.
        target_accuracy: The accuracy that ``verify`` holds every form to, a fraction; None for none.
        verification: What ``verify --record`` measured, one record per form, runtime and machine.
        tuning: What ``bench --tune`` measured, one record per form and machine.
    """

    path: Path
    name: str
    source_sha256: str
    artefacts: tuple[Artefact, ...]
    training: Mapping[str, Any] = field(default_factory=dict)
    target_accuracy: float | None = None
    verification: tuple[Record, ...] = ()
    tuning: tuple[Tuned, ...] = ()

    @property
    def address(self) -> str:
        """What ``load`` finds it by: the name of one that ships, wherever it is installed, else the folder."""
        return self.path.name if self.path.parent == ASSETS else str(self.path)

    @classmethod
    def load(cls, path: str | Path | None = None) -> Bundle:
        """Reads and validates a bundle's manifest.

        Args:
            path: The name of a shipped bundle (``"default"``, which ``None`` means too, ``"fast"``), or a bundle's
                folder or its ``bundle.json``. A name goes before a folder of that name, so that it means the same
                wherever one is; such a folder is ``"./fast"``, or any ``Path``.

        Raises:
            BundleError: There is no bundle, or its manifest is not valid.
        """
        folder = _folder(path)
        if folder.name == MANIFEST:
            folder = folder.parent
        manifest = folder / MANIFEST
        try:
            status = manifest.stat()
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(f"{manifest} is not a file")
            if status.st_size > MAX_MANIFEST_BYTES:
                raise BundleError(f"{manifest} is larger than {MAX_MANIFEST_BYTES} bytes: not a manifest of ours")
            raw = json.loads(manifest.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        except OSError as error:
            ships = f"; those that ship are {', '.join(shipped_names(ASSETS))}" if path == folder.name else ""
            raise BundleError(
                f"{folder} is not a bundle: cannot read {MANIFEST} ({error.strerror}){ships}. "
                "Make one with: fer-deploy export model.keras"
            ) from error
        except (ValueError, RecursionError) as error:
            raise BundleError(
                f"{manifest} is damaged: not valid JSON ({error}). Make the bundle again with: fer-deploy export"
            ) from error
        try:
            return cls._from_manifest(folder, raw)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"{manifest} is damaged: {error}. Make the bundle again with: fer-deploy export"
            ) from error

    @classmethod
    def _from_manifest(cls, folder: Path, raw: Any) -> Bundle:
        if not isinstance(raw, dict):
            raise ValueError("the manifest is not a JSON object")
        if raw.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"format_version is {raw.get('format_version')!r:.40}, this program reads {FORMAT_VERSION}"
            )
        if tuple(_typed(raw, "labels", list)) != LABELS:
            raise ValueError(f"labels are {raw['labels']!r:.200}, expected {list(LABELS)}")
        if _typed(raw, "input", dict) != input_contract():
            raise ValueError(f"input is {raw['input']!r:.200}, expected {input_contract()}")
        artefacts = tuple(_artefact(entry) for entry in _typed(raw, "artefacts", list))
        if not artefacts:
            raise ValueError("it lists no artefact")
        kinds = [(artefact.format, artefact.precision, artefact.target) for artefact in artefacts]
        if len(set(kinds)) < len(kinds):
            raise ValueError("it lists two artefacts of the same format, precision and target")
        name = _typed(raw, "name", str)
        if not name or not name.isprintable():
            raise ValueError(f"the name {name!r:.80} is empty or has unprintable characters")
        return cls(
            path=folder,
            name=name,
            source_sha256=_digest(raw, "source_sha256"),
            artefacts=artefacts,
            training=_typed(raw, "training", dict),
            target_accuracy=_target_accuracy(raw.get("target_accuracy")),
            verification=tuple(parse_record(entry) for entry in raw.get("verification", [])),
            tuning=tuple(parse_tuned(entry) for entry in raw.get("tuning", [])),
        )

    def save(self) -> None:
        """Writes the manifest into the bundle's folder, whole or not at all.

        Raises:
            OutputError: The folder is missing or cannot be written.
            ValueError: ``training``, ``made_with`` or a record holds what JSON has not (NaN, infinities).
        """
        manifest = {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "labels": list(LABELS),
            "input": input_contract(),
            "source_sha256": self.source_sha256,
            "artefacts": [asdict(artefact) for artefact in self.artefacts],
            "training": dict(self.training),
            "target_accuracy": self.target_accuracy,
            "verification": [asdict(record) for record in self.verification],
            **({"tuning": [asdict(tuned) for tuned in self.tuning]} if self.tuning else {}),
        }
        partial = self.path / (MANIFEST + ".partial")
        try:
            partial.write_text(json.dumps(manifest, indent=2, allow_nan=False) + "\n", encoding="utf-8")
            partial.replace(self.path / MANIFEST)
        except OSError as error:
            raise OutputError(f"{self.path / MANIFEST} cannot be written: {error.strerror or error}") from error

    def find(self, format: str, precision: str = "fp32", target: str = "") -> Artefact | None:
        """Returns the artefact of that format, precision and target, or None."""
        for artefact in self.artefacts:
            if (artefact.format, artefact.precision, artefact.target) == (format, precision, target):
                return artefact
        return None

    def read(self, format: str, precision: str = "fp32", target: str = "") -> bytes:
        """Returns an artefact's bytes after checking its size and hash, and that they are all that a runtime will need.

        Raises:
            BundleError: The bundle has no such artefact, or the file is missing or not the one in the manifest.
            ModelError: The model would make a runtime read other files or run code that is not its own.
        """
        artefact = self.find(format, precision, target)
        if artefact is None:
            have = ", ".join(f"{a.format} {a.precision}" for a in self.artefacts)
            raise BundleError(f"The bundle {self.path} has no {format} model in {precision}; it has: {have}")
        path = self.path / artefact.file
        try:
            if not path.resolve(strict=True).is_relative_to(self.path.resolve()):
                raise BundleError(f"{path} is a link out of the bundle: it is not followed")
            if path.stat().st_size == artefact.size:
                content = path.read_bytes()
                if hashlib.sha256(content).hexdigest() == artefact.sha256:
                    _check_content(artefact, content, str(path))
                    return content
        except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself, before Python 3.13
            reason = getattr(error, "strerror", None) or "its links lead round in a circle"
            raise BundleError(f"{path} cannot be read ({reason}); the bundle is incomplete") from error
        raise BundleError(
            f"{path} is not the file that the bundle's manifest names (size or SHA-256 differs): "
            "truncated, changed or exchanged. Make the bundle again with: fer-deploy export"
        )


def input_contract() -> dict[str, Any]:
    """What every model form takes, as the manifest states it."""
    return {"name": "image", "dtype": "uint8", "shape": ["N", *INPUT_SHAPE], "layout": "NHWC"}


def describe_file(
    folder: Path, file: str, format: str, precision: str, made_with: Mapping[str, Any], target: str = ""
) -> Artefact:
    """Makes the manifest entry of a file that lies in a bundle's folder."""
    content = (folder / file).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Artefact(file, format, precision, len(content), digest, made_with, target)


def _folder(path: str | Path | None) -> Path:
    """Finds the folder that a name or a path means."""
    if path is None or path == DEFAULT:
        return ASSETS / DEFAULT
    return ASSETS / path if path in shipped_names(ASSETS) else Path(path)


def _refuse_constant(name: str) -> None:
    """Refuses NaN and infinities, which Python's reader takes and which are no JSON."""
    raise ValueError(f"it holds {name}")


def _check_content(artefact: Artefact, content: bytes, what: str) -> None:
    """Looks into a model before any runtime does: a right hash tells only that the file is the one of the manifest."""
    if artefact.format == "onnx":
        check_onnx(content, what)
    elif artefact.format == "keras":
        from fer_deploy.bundle.keras_file import (
            check_keras_file,  # imports zipfile, which most starts need not wait for
        )

        check_keras_file(content, what)


def _artefact(entry: Any) -> Artefact:
    if not isinstance(entry, dict):
        raise ValueError("an artefact is not a JSON object")
    artefact = Artefact(
        file=_typed(entry, "file", str),
        format=_typed(entry, "format", str),
        precision=_typed(entry, "precision", str),
        size=_typed(entry, "size", int),
        sha256=_digest(entry, "sha256"),
        made_with=_typed(entry, "made_with", dict),
        target=entry.get("target", ""),
    )
    path = PurePosixPath(artefact.file)
    if path.is_absolute() or ".." in path.parts or "\\" in artefact.file or not path.name:
        raise ValueError(f"the path {artefact.file!r:.200} leads out of the bundle")
    if not artefact.file.isprintable():  # NUL and lone surrogates are no file names, and the rest no good ones
        raise ValueError(f"the path {artefact.file!r:.200} has unprintable characters")
    if not 0 < artefact.size <= MAX_FILE_BYTES:
        raise ValueError(f"the size of {artefact.file} is {artefact.size}, expected 1 to {MAX_FILE_BYTES} bytes")
    if artefact.format not in FORMATS or artefact.precision not in PRECISIONS:
        raise ValueError(f"unknown kind of artefact: {artefact.format!r:.40} {artefact.precision!r:.40}")
    if not isinstance(artefact.target, str) or not re.fullmatch(_TARGET, artefact.target):
        raise ValueError(f"the target of {artefact.file} is {artefact.target!r:.40}, expected one like 'sm86' or none")
    if bool(artefact.target) != (artefact.format == "engine"):
        raise ValueError(f"{artefact.file}: an engine has a target, and nothing else has one")
    return artefact


def _target_accuracy(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"target_accuracy is {value!r:.40}, expected a fraction from 0 to 1 or null")
    return float(value)


def _digest(raw: Mapping[str, Any], key: str) -> str:
    digest: str = _typed(raw, key, str)
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError(f"{key!r} is not a SHA-256 in hexadecimal: {digest!r:.80}")
    return digest


def _typed(raw: Mapping[str, Any], key: str, kind: type) -> Any:
    value = raw.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{key!r} is missing or not of type {kind.__name__}")
    return value
