from __future__ import annotations

import pytest

from fer_deploy.errors import UsageError
from fer_deploy.verification.variants import KERAS, SIMULATION, TRT_INT8, ModelVariant, all_variants, select


def test_all_forms() -> None:
    variants = all_variants()
    assert {KERAS, ModelVariant("openvino", "bf16"), ModelVariant("onnx", "int8"), TRT_INT8} <= set(variants)
    assert SIMULATION not in variants
    assert len(set(variants)) == len(variants)
    assert select().variants == variants


def test_backends_and_precisions_are_crossed() -> None:
    chosen = select("onnx, openvino", "int8,fp32")
    assert set(map(str, chosen.variants)) == {"onnx/int8", "onnx/fp32", "openvino/int8", "openvino/fp32"}
    assert chosen.named == {"onnx", "openvino"}
    assert select("all", "bf16").variants == (ModelVariant("openvino", "bf16"),)
    assert select("all", "bf16").named == frozenset()


def test_int8_of_tensorrt_goes_by_either_name() -> None:
    assert TRT_INT8 in select("all", "int8").variants
    assert select("all", "int8-trt").variants == (TRT_INT8,)
    assert select(require="trt/int8").required == select(require="trt/int8-trt").required == {TRT_INT8}


def test_what_is_required_is_looked_at_in_any_case() -> None:
    chosen = select("openvino", "fp32", "onnx/fp16")
    assert set(map(str, chosen.variants)) == {"openvino/fp32", "onnx/fp16"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "no backend 'nowhere'; there are: keras"),
        (("all", "int4"), "no precision 'int4'; there are: fp32"),
        (("all", "all", "onnx"), "no form 'onnx' to require"),
        (("all", "all", "onnx/bf16"), "no form 'onnx/bf16' to require"),
        (("all", "all", "onnx/int8-trt"), "no form 'onnx/int8-trt' to require"),
        (("keras", "int8"), "keras has no precision int8"),
    ],
)
def test_what_is_not_there(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        select(*arguments)
