"""What a ``.keras`` file may hold before Keras sees it: a network of Keras's own layers, and nothing that acts.

Keras's safe mode refuses Python code in the file, but takes layers that read files, load other programs' models or
look up whatever the process has registered. A network for pictures has none of them, so only the namespaces that
networks are made of are taken. The weights must lie in the file as well: HDF5 can point into other files.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from fer_deploy.errors import ModelError, one_line

CONTENTS: Final = frozenset({"config.json", "metadata.json", "model.weights.h5"})
HDF5_MAGIC: Final = b"\x89HDF\r\n\x1a\n"
WEIGHTS: Final = "model.weights.h5"
MAX_UNPACKED_BYTES: Final = 2 << 30
MAX_CONFIG_BYTES: Final = 32 << 20

_COMPRESSIONS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_NAMESPACES: Final = frozenset(
    {
        *("activations", "constraints", "dtype_policies", "initializers", "layers", "losses", "metrics", "models"),
        *("ops", "optimizers", "quantizers", "random", "regularizers"),
        "engine",  # where files of Keras 2 have their models
    }
)
"""What may follow ``keras.`` or ``keras.src.``."""
_TOP_LEVEL: Final = frozenset({"DTypePolicy", "FloatDTypePolicy", "Functional", "Model", "Sequential"})
_VALUES: Final = frozenset({"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"})
_ACTING: Final = {
    "Lambda": "a Lambda layer",
    "__lambda__": "a Lambda layer",
    "TFSMLayer": "a TFSMLayer, which loads another model",
    "TorchModuleWrapper": "a TorchModuleWrapper, which loads another model",
    "JaxLayer": "a JaxLayer, which runs other code",
    "FlaxLayer": "a FlaxLayer, which runs other code",
    "StringLookup": "a StringLookup, which reads files",
    "IntegerLookup": "an IntegerLookup, which reads files",
    "IndexLookup": "an IndexLookup, which reads files",
    "TextVectorization": "a TextVectorization, which reads files",
}


def check_keras_file(source: Path | bytes, what: str | None = None) -> None:
    """Looks into a ``.keras`` file without Keras, so that a wrong file is refused at once.

    Args:
        source: The file, or its content.
        what: How errors name it; the path if not given.

    Raises:
        ModelError: Not a Keras file, truncated or damaged, or in need of more than Keras's own layers.
    """
    what = what or str(source)
    check_config(_read_config(source, what), what)


def check_config(config: Any, what: str) -> None:
    """Refuses an architecture, as read from JSON, that is more than Keras's own layers.

    Raises:
        ModelError: It needs code that is not in the file, or layers that read files or run other code.
    """
    found = sorted(set(_foreign(config)))
    if found:
        raise ModelError(f"{what} needs what is not in the file: {', '.join(found)}. Only Keras's own layers are taken")


def check_weights(file: Path, what: str) -> None:
    """Looks whether all weights lie in the ``.keras`` file itself; needs h5py, which comes with Keras.

    Raises:
        ModelError: The weights are not readable, or point into other files.
    """
    import h5py

    try:
        with zipfile.ZipFile(file) as archive, h5py.File(BytesIO(archive.read(WEIGHTS)), "r") as weights:
            outside = next(in_other_files(weights, h5py), None)
    except ModelError:
        raise
    except Exception as error:  # h5py raises nearly every type on damage
        reason = one_line(error, 200)
        raise ModelError(f"{what} is damaged: its {WEIGHTS} cannot be read: {reason}") from error
    if outside:
        raise ModelError(f"{what} keeps the weights {outside!r:.200} in another file, which is not read")


def _read_config(source: Path | bytes, what: str) -> Any:
    """Reads the architecture, without how it was compiled, after checking that the archive is complete."""
    try:
        start = source[: len(HDF5_MAGIC)] if isinstance(source, bytes) else _start(source)
        if start == HDF5_MAGIC:
            raise ModelError(f"{what} is HDF5, not .keras: load it in Keras and save it with model.save('model.keras')")
        with zipfile.ZipFile(BytesIO(source) if isinstance(source, bytes) else source) as archive:
            missing = CONTENTS.difference(archive.namelist())
            if missing:
                raise ModelError(f"{what} is not a Keras file: the archive lacks {', '.join(sorted(missing))}")
            unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > MAX_UNPACKED_BYTES or archive.getinfo("config.json").file_size > MAX_CONFIG_BYTES:
                raise ModelError(f"{what} unpacks to {unpacked:,} bytes: not a network of ours")
            if any(member.compress_type not in _COMPRESSIONS for member in archive.infolist()):
                raise ModelError(f"{what} is packed in a way that Keras does not use: damaged, or not a Keras file")
            damaged = archive.testzip()
            if damaged:
                raise ModelError(f"{what} is damaged: the checksum of {_printable(damaged)} in it is wrong")
            config = json.loads(archive.read("config.json"))
    except OSError as error:
        raise ModelError(f"{what} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{what} is damaged: its config.json is not valid JSON") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        reason = "truncated or damaged" if start.startswith(b"PK") else "not a Keras file"
        raise ModelError(f"{what} is {reason}: expected a .keras archive as model.save writes it") from error
    return {key: value for key, value in config.items() if key != "compile_config"} if isinstance(config, dict) else {}


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(HDF5_MAGIC))


def _foreign(config: Any) -> Iterator[str]:
    """Names what Keras would have to take from elsewhere, or should not run."""
    todo = [config]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            todo += node.values()
            reason = _reason(node)
            if reason:
                yield reason
        elif isinstance(node, list):
            todo += node


def _reason(node: dict[str, Any]) -> str | None:
    """Tells what is wrong with one object of the architecture, or None."""
    if "class_name" not in node:
        return None
    name, module = node["class_name"], node.get("module", "")
    if not isinstance(name, str):
        return f"a class called {name!r:.80}"
    if name in _ACTING:
        return _ACTING[name]
    if name in _VALUES:
        return None
    function = node["config"] if name == "function" else name
    if node.get("registered_name") not in (None, name, function):
        return f"{node['registered_name']!r:.80}, which is registered elsewhere"
    if module == "" or (module == "builtins" and name == "function"):  # then Keras looks in its own lists only
        return None
    return None if _is_keras(module, name) else _printable(f"{module}.{name}")


def _printable(name: str) -> str:
    return (name if name.isprintable() else ascii(name))[:160]


def _is_keras(module: Any, name: str) -> bool:
    if not isinstance(module, str):
        return False
    root, *inner = module.split(".")
    inner = inner[1:] if inner[:1] == ["src"] else inner
    return root == "keras" and (inner[0] in _NAMESPACES if inner else name in _TOP_LEVEL)


def in_other_files(group: Any, h5py: Any) -> Iterator[str]:
    """Names what in an HDF5 file lies in another one: links, datasets stored outside, datasets put together."""
    todo, seen = [group], set()
    while todo:
        group = todo.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:  # a group can hold itself
            continue
        seen.add(address)
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield f"{group.name}/{name}"
            elif isinstance(link, h5py.HardLink):
                item = group[name]
                if isinstance(item, h5py.Group):
                    todo.append(item)
                elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                    yield str(item.name)
