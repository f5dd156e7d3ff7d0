"""What an ONNX file may hold before a runtime sees it: all of its data, and operators of ONNX's own only.

A file can name other files that hold its tensors ("external data"), which a runtime opens wherever they lie and which
the file's hash does not cover. Operators of other domains run code or read files of their own. Neither is needed, so
neither is taken. The file is walked here as protobuf, in bounded time and memory, because the package ``onnx`` is no
part of an installation for inference.

Fields after https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, encoding after
https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fer_deploy.errors import ModelError

DOMAINS: Final = (b"", b"ai.onnx", b"ai.onnx.ml")
"""Where operators may come from."""
MAX_DEPTH: Final = 64
"""Messages inside messages; a network's are at most about ten deep."""
MAX_FIELDS: Final = 500_000
"""Fields in all; a network of a few hundred layers has some ten thousand."""

_INSIDE: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""The messages that can lead to a tensor or an operator: message -> field -> message."""

_ORT_FORMAT: Final = b"ORTM"
"""What ONNX Runtime knows its own format by, at the fifth byte, whatever else the bytes may be read as."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TENSOR_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_NODE_TYPE, _NODE_DOMAIN = 4, 7
_MODEL_GRAPH, _GRAPH_OUTPUT, _NAME = 7, 12, 1

Field = tuple[int, int, int, int]
"""Number, wire type, where the value starts (of a plain number: the value itself), and where it ends."""


def check_onnx(content: bytes, what: str) -> None:
    """Refuses an ONNX file that is more than one file, or that needs operators which ONNX does not define.

    Args:
        content: The whole file.
        what: How errors name it.

    Raises:
        ModelError: The file is no protobuf, is in ONNX Runtime's own format, keeps data outside of itself, or has
            foreign operators.
    """
    if content[4:8] == _ORT_FORMAT:
        raise ModelError(f"{what} is not an ONNX model: it is in ONNX Runtime's own format")
    todo = [("model", 0, len(content), 0)]
    left = MAX_FIELDS
    while todo:
        message, start, end, depth = todo.pop()
        if depth > MAX_DEPTH:
            raise ModelError(f"{what} is not an ONNX model of a network: more than {MAX_DEPTH} levels deep")
        try:
            fields = list(_fields(content, start, end, left))
        except (ValueError, IndexError) as error:
            raise ModelError(f"{what} is not an ONNX model, or is damaged: {error}") from error
        left -= len(fields)
        if message == "tensor":
            _check_tensor(content, fields, what)
        elif message == "node":
            _check_node(content, fields, what)
        for number, wire, first, last in fields:
            if wire == _BYTES and number in _INSIDE[message]:
                todo.append((_INSIDE[message][number], first, last, depth + 1))


def output_names(content: bytes) -> tuple[str, ...]:
    """Gives the names of a network's outputs, in their order.

    Args:
        content: The whole file, one that ``check_onnx`` has passed.
    """
    names = []
    for number, wire, first, last in _fields(content, 0, len(content), MAX_FIELDS):
        if (number, wire) != (_MODEL_GRAPH, _BYTES):
            continue
        for field, kind, start, end in _fields(content, first, last, MAX_FIELDS):
            if (field, kind) == (_GRAPH_OUTPUT, _BYTES):
                inner = _fields(content, start, end, MAX_FIELDS)
                names += [content[a:b].decode(errors="replace") for n, w, a, b in inner if (n, w) == (_NAME, _BYTES)]
    return tuple(names)


def _check_tensor(content: bytes, fields: list[Field], what: str) -> None:
    for number, wire, value, _ in fields:
        if (number, wire) == (_EXTERNAL_DATA, _BYTES) or ((number, wire) == (_DATA_LOCATION, _VARINT) and value):
            raise ModelError(
                f"{what} keeps the values of {_text(content, fields, _TENSOR_NAME)} in another file, which is not "
                "read. Save the model as one file, without external data"
            )


def _check_node(content: bytes, fields: list[Field], what: str) -> None:
    for number, wire, first, last in fields:
        if (number, wire) == (_NODE_DOMAIN, _BYTES) and content[first:last] not in DOMAINS:
            raise ModelError(
                f"{what} has an operator {_text(content, fields, _NODE_TYPE)} of the domain "
                f"{_text(content, fields, _NODE_DOMAIN)}; only ONNX's own are run"
            )


def _text(content: bytes, fields: list[Field], wanted: int) -> str:
    """Gives a text field for a message, printable and short."""
    found = [content[first:last] for number, wire, first, last in fields if (number, wire) == (wanted, _BYTES)]
    return repr(found[-1][:80].decode(errors="replace")) if found else "without a name"


def _fields(content: bytes, start: int, end: int, most: int) -> Iterator[Field]:
    """Splits a message into its fields; raises ValueError or IndexError where it is no protobuf."""
    at = start
    for _ in range(most):
        if at == end:
            return
        tag, at = _varint(content, at)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise ValueError(f"a field has the number {number}")
        if wire == _VARINT:
            value, at = _varint(content, at)
            yield number, wire, value, at
        elif wire in (_FIXED64, _BYTES, _FIXED32):
            size, at = _varint(content, at) if wire == _BYTES else ({_FIXED64: 8, _FIXED32: 4}[wire], at)
            yield number, wire, at, at + size
            at += size
        else:
            raise ValueError(f"a field has the wire type {wire}")
        if at > end:
            raise ValueError("a field is longer than what it lies in")
    raise ValueError(f"more than {MAX_FIELDS} fields")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Reads a number in base 128; returns it and where the next thing starts."""
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")
