"""Holds our code to the names that TensorRT really has, where TensorRT itself cannot be run.

    python tests/tools/tensorrt_names.py                 # TensorRT for RTX, if it is installed
    python tests/tools/tensorrt_names.py --download      # and TensorRT 10 and 11: 1.3 MB each from the package index
    python tests/tools/tensorrt_names.py tensorrt_cu13_bindings-*.whl

The bindings of TensorRT cannot be imported without NVIDIA's libraries, but every name of theirs stands in their one
shared object. A name used anywhere must be in every TensorRT; only ``flavour.py``, the place for differences, may use
names that not all have, and each of those must be in one at least.
"""

from __future__ import annotations

import ast
import importlib
import itertools
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = (*sorted((ROOT / "fer_deploy/backends/tensorrt").glob("*.py")), ROOT / "fer_deploy/exporting/engines.py")
DIFFERENCES = "flavour.py"
OBJECTS = {
    "trt", "builder", "network", "parser", "config", "profile", "engine", "context", "runtime", "capability",
    "inspector",
    "self._engine", "self._context", "self._runtime",
}  # fmt: skip
"""How our code calls TensorRT's module and objects; what hangs on them is TensorRT's."""
WHEELS = ("tensorrt-cu12-bindings==10.3.*", "tensorrt-cu12-bindings==10.*", "tensorrt-cu13-bindings==11.*")
MODULES = ("tensorrt_rtx", "tensorrt_rtx_bindings")
Has = Callable[[str], bool]


def used_names(source: str) -> dict[str, int]:
    """Collects the attributes of TensorRT's module and objects in a Python file, each with a line that uses it."""
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            root, names = _chain(node)
            if root in OBJECTS:  # what hangs on __members__ is Python's
                theirs = itertools.takewhile(lambda name: not name.startswith("__"), names)
                found.update(dict.fromkeys(theirs, node.lineno))
        elif isinstance(node, ast.ClassDef) and any("trt." in ast.unparse(base) for base in node.bases):
            methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
            found.update({child.name: child.lineno for child in methods if not child.name.startswith("__")})
    return found


def _chain(node: ast.AST) -> tuple[str, list[str]]:
    """Takes ``flavour.trt.Runtime(logger).x`` apart into ``trt`` and ``Runtime``, ``x``."""
    names: list[str] = []
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        if isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
        node = node.func if isinstance(node, ast.Call) else node.value
    if not isinstance(node, ast.Name):
        return "", []
    if "trt" in names:
        cut = names.index("trt")
        return "trt", names[cut + 1 :]
    if node.id == "self" and names:
        return f"self.{names[0]}", names[1:]
    return node.id, names


def names_of_module(name: str) -> Has:
    """All names of an importable TensorRT: of its module, its classes and its enumerations."""
    module = importlib.import_module(name)
    known = set(dir(module))
    for value in list(vars(module).values()):
        if isinstance(value, type):
            known.update(dir(value))
    return known.__contains__


def names_of_wheel(path: Path) -> Has:
    """All names in a wheel: words of its shared object and its Python files, and the tails of the object's strings.

    Linkers keep a string that is the tail of another (``INPUT`` of ``SHAPE_INPUT``) only there.
    """
    with zipfile.ZipFile(path) as wheel:
        names = [name for name in wheel.namelist() if name.endswith((".so", ".py"))]
        content = b"\n".join(wheel.read(name) for name in names)
    if not any(name.endswith(".so") for name in names):
        raise ValueError(f"{path} has no shared object: it is no wheel of TensorRT's bindings")

    def has(name: str) -> bool:
        return bool(re.search(rb"(?<![A-Za-z0-9_])%b(?![A-Za-z0-9_])|%b\0" % (name.encode(), name.encode()), content))

    return has


def missing(files: Iterable[Path], runtimes: dict[str, Has]) -> Iterator[str]:
    """Yields a line for every name that some runtime should have and has not."""
    for path in files:
        for name, line in used_names(path.read_text(encoding="utf-8")).items():
            lacking = [runtime for runtime, has in runtimes.items() if not has(name)]
            allowed = path.name == DIFFERENCES and len(lacking) < len(runtimes)
            if lacking and not allowed:
                yield f"{path.name}:{line}: {name} is not in {', '.join(lacking)}"


def installed() -> dict[str, Has]:
    """TensorRT for RTX, if it is installed."""
    for module in MODULES:
        try:
            return {module: names_of_module(module)}
        except ImportError:
            continue
    return {}


def download(folder: Path) -> list[Path]:
    """Fetches the bindings of TensorRT 10 and 11 from the package index."""
    for wheel in WHEELS:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), wheel]
        subprocess.run(command, check=True)
    return sorted(folder.glob("*.whl"))


def main(arguments: list[str]) -> int:
    """Prints what is missing; returns 1 if anything is, 2 if there was nothing to look in."""
    with tempfile.TemporaryDirectory() as folder:
        wheels = download(Path(folder)) if arguments == ["--download"] else [Path(argument) for argument in arguments]
        runtimes = installed() | {"-".join(path.name.split("-")[:2]): names_of_wheel(path) for path in wheels}
        lines = list(missing(FILES, runtimes))
    names = {name for path in FILES for name in used_names(path.read_text(encoding="utf-8"))}
    print(*lines, f"{len(names)} names, looked up in: {', '.join(runtimes) or 'nothing'}", sep="\n")
    return 2 if not runtimes else bool(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
