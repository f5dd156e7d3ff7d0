"""An ONNX file that needs other files or foreign operators is refused, wherever in it that stands; nothing crashes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_deploy.bundle.onnx_file import MAX_DEPTH, MAX_FIELDS, check_onnx
from fer_deploy.errors import ModelError

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fer-deploy[export]'")


def tensor(name: str, external: bool = False) -> Any:
    made = onnx.numpy_helper.from_array(np.arange(6, dtype=np.float32), name)
    if external:
        made.ClearField("raw_data")
        made.data_location = onnx.TensorProto.EXTERNAL
        made.external_data.add(key="location", value="/etc/passwd")
    return made


def graph(nodes: list[Any], tensors: list[Any] | None = None) -> Any:
    given_, wanted = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [6]) for n in "xy")
    return onnx.helper.make_graph(nodes, "g", [given_], [wanted], tensors or [])


def model(*nodes: Any, tensors: list[Any] | None = None, **options: Any) -> Any:
    return onnx.helper.make_model(graph(list(nodes), tensors), **options)


def add(inner: Any = None, domain: str = "") -> Any:
    return onnx.helper.make_node("Add", ["x", "w"], ["y"], domain=domain, **({"inner": inner} if inner else {}))


def in_function() -> Any:
    opset = onnx.helper.make_opsetid("", 17)
    node = onnx.helper.make_node("Constant", [], ["c"], value=tensor("w", external=True))
    return model(add(), functions=[onnx.helper.make_function("", "F", [], ["c"], [node], [opset])])


def in_training() -> Any:
    made = model(add())
    made.training_info.add().algorithm.CopyFrom(graph([add()], [tensor("w", external=True)]))
    return made


def location_only() -> Any:
    made = model(add(), tensors=[tensor("w")])
    made.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    return made


def sparse() -> Any:
    made = model(add())
    made.graph.sparse_initializer.add().values.CopyFrom(tensor("w", external=True))
    return made


OUTSIDE: dict[str, Callable[[], Any]] = {
    "initializer": lambda: model(add(), tensors=[tensor("ok"), tensor("w", external=True)]),
    "location only": location_only,
    "sparse initializer": sparse,
    "attribute": lambda: model(add(tensor("w", external=True))),
    "attribute of many": lambda: model(add([tensor("ok"), tensor("w", external=True)])),
    "subgraph": lambda: model(add(graph([add()], [tensor("w", external=True)]))),
    "subgraph of many": lambda: model(add([graph([add(graph([add(tensor("w", external=True))]))])])),
    "function": in_function,
    "training": in_training,
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_data_in_another_file_is_refused(case: str) -> None:
    with pytest.raises(ModelError, match=r"m\.onnx keeps the values of 'w' in another file, which is not read"):
        check_onnx(OUTSIDE[case]().SerializeToString(), "m.onnx")


@pytest.mark.parametrize("domain", ["com.microsoft", "my.ops", "ai.onnxx", "\n"])
@pytest.mark.parametrize("deep", [False, True])
def test_foreign_operators_are_refused(domain: str, deep: bool) -> None:
    node = add(domain=domain)
    with pytest.raises(
        ModelError, match=r"m\.onnx has an operator 'Add' of the domain '.*'; only ONNX's own"
    ) as caught:
        check_onnx(model(add(graph([node])) if deep else node).SerializeToString(), "m.onnx")
    assert "\n" not in str(caught.value)


def test_what_onnx_runtime_takes_for_its_own_format_is_refused() -> None:
    """Bytes 5 to 8 decide that, even where all of them are a protobuf too."""
    both = b"\x08\x08\x0d\x00ORTM" + model(add()).SerializeToString()  # a version, then numbers of 32 bits
    with pytest.raises(ModelError, match="ONNX Runtime's own format"):
        check_onnx(both, "theirs")


def test_plain_models_are_taken() -> None:
    for domain in ("", "ai.onnx", "ai.onnx.ml"):
        check_onnx(model(add(domain=domain), tensors=[tensor("w")]).SerializeToString(), "m.onnx")
    constant = onnx.helper.make_node("Constant", [], ["c"], value=tensor("w"))
    check_onnx(model(constant, add(graph([add()]))).SerializeToString(), "m.onnx")


def test_a_bomb_of_levels_or_fields_is_refused_in_time() -> None:
    nested = b""
    for level in range(3 * MAX_DEPTH + 1):  # graphs in attributes of nodes of graphs
        field = b"\x3a" if level == 3 * MAX_DEPTH else (b"\x32", b"\x2a", b"\x0a")[level % 3]
        length = len(nested)
        size = b""
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        nested = field + size + bytes([length]) + nested
    started = time.perf_counter()
    with pytest.raises(ModelError, match="levels deep"):
        check_onnx(nested, "m.onnx")
    with pytest.raises(ModelError, match="fields"):
        check_onnx(b"\x08\x08" * (MAX_FIELDS + 1), "m.onnx")
    assert time.perf_counter() - started < 10


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_taken_or_a_model_error(content: bytes) -> None:
    refusal(content)


SOUND = model(add(graph([add(tensor("v"))], [tensor("u")])), tensors=[tensor("w")]).SerializeToString()


@settings(max_examples=500, deadline=None)
@given(
    cases=st.sampled_from([SOUND, *(make().SerializeToString() for make in OUTSIDE.values())]),
    at=st.floats(0, 1, exclude_max=True),
    cut=st.integers(0, 4),
    put=st.binary(max_size=6),
)
def test_what_onnx_reads_as_outside_is_never_taken(cases: bytes, at: float, cut: int, put: bytes) -> None:
    """However a file is bent: if ONNX's own reader finds data in another file in it, it is refused."""
    place = int(at * len(cases))
    content = cases[:place] + put + cases[place + cut :]
    refused = refusal(content)
    try:
        parsed = onnx.load_model_from_string(content)
    except Exception:  # not a file that any runtime would read
        return
    if any(t.data_location == onnx.TensorProto.EXTERNAL or t.external_data for t in tensors_of(parsed)):
        assert refused


def refusal(content: bytes) -> str:
    """Gives the text of the error that a file is refused with; empty for one that is taken."""
    try:
        check_onnx(content, "m.onnx")
    except ModelError as error:
        assert "\n" not in str(error)  # noqa: PT017 - an error is one of two right outcomes
        return str(error)
    return ""


def tensors_of(message: Any) -> Iterator[Any]:
    if isinstance(message, onnx.TensorProto):
        yield message
    for _, value in message.ListFields():
        for child in value if hasattr(value, "__iter__") and not isinstance(value, (str, bytes)) else [value]:
            if hasattr(child, "ListFields"):
                yield from tensors_of(child)
