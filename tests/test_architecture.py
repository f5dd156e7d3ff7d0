"""The house keeps its shape: arrows between modules point down only, and no name stands twice."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import fer_deploy

PACKAGE = Path(fer_deploy.__file__).parent
LEVELS = (
    ("errors", "labels", ""),
    ("system",),
    ("data", "images"),
    ("bundle", "metrics"),
    ("backends", "faces"),
    ("inference",),
    ("verification", "benchmark", "exporting", "training", "reporting", "video"),
    ("api",),
    ("cli", "__main__"),
)
"""From the lowest up: a module imports from its own level and from those below. An empty name: the package."""
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
MOST_LINES = 400


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}


def imports(name: str) -> Iterator[tuple[str, bool]]:
    """Yields the modules of this package that a module imports, in functions too, and whether only to name a type."""
    typing_only = {
        id(inner)
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(TREES[name]):
        for_types = id(node) in typing_only
        if isinstance(node, ast.Import):
            full_names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            full_names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for full in full_names:
            if full == "fer_deploy" or full.startswith("fer_deploy."):
                inner_name = full.removeprefix("fer_deploy").removeprefix(".")
                yield inner_name if inner_name in SOURCES else inner_name.rpartition(".")[0], for_types


def room(name: str) -> str:
    """Returns the top-level package or module that a module belongs to."""
    return name.partition(".")[0]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Returns the nodes of one circle, in order; none if there is no circle."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node not in done:
            for other in sorted(graph.get(node, ())):
                if found := visit(other, [*path, node]):
                    return found
            done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := visit(node, []))), [])


def test_every_room_has_its_level() -> None:
    assert {room(name) for name in SOURCES} == set(LEVEL)


def test_no_module_imports_from_above() -> None:
    upward = [
        f"{name} -> {other}"
        for name in SOURCES
        if name  # the package itself names the types that it resolves on use
        for other, _ in imports(name)
        if LEVEL[room(other)] > LEVEL[room(name)]
    ]
    assert upward == []


def test_no_circle_between_modules() -> None:
    graph = {name: {other for other, for_types in imports(name) if not for_types} for name in SOURCES}
    assert circle(graph) == []


def test_no_circle_between_packages() -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for name in filter(None, SOURCES):
        graph[room(name)] |= {room(other) for other, _ in imports(name) if room(other) not in ("", room(name))}
    assert circle(graph) == []


def test_no_file_name_twice() -> None:
    places = defaultdict(list)
    for name, path in SOURCES.items():
        if path.name != "__init__.py":
            places[path.name].append(name)
    assert {file: names for file, names in places.items() if len(names) > 1} == {}


def test_no_public_class_name_twice() -> None:
    places = defaultdict(list)
    for name, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    assert {kind: names for kind, names in places.items() if len(names) > 1} == {}


def test_no_file_is_too_long() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in SOURCES.items()}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_private_attributes_of_other_libraries_stay_in_compat_files() -> None:
    """Those of a module's own classes are used there and nowhere else; whatever else is private is a library's."""
    found = []
    for name, tree in TREES.items():
        own = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_self(node.value)}
        own |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr) and not is_self(node.value):
                allowed = node.attr in (*own, "_replace", "_asdict", "_fields", "_exit")
                if not allowed and "_compat_" not in name and room(name) != "training":
                    found.append(f"{name}:{node.lineno} {node.attr}")
    assert found == []


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")
