"""TensorRT for RTX really builds here, without a GPU; what it says of what it built is held to what was asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fer_deploy.backends.tensorrt.builder import BuildOptions, build_engine, parse_layers, summary, wrong_convolutions
from fer_deploy.backends.tensorrt.cuda import Cuda
from fer_deploy.backends.tensorrt.flavour import Flavour
from fer_deploy.backends.tensorrt.lanes import Runner
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import BackendError, ModelError, UnavailableError
from fer_deploy.exporting.engines import check_with_tensorrt

CONVOLUTIONS = 8
TYPES = {"fp32": ("Float", "Float"), "fp16": ("Half", "Half"), "int8-trt": ("Int8", None)}
LISTING = """Layers:
Name: __myl_Cast_myl0_1, LayerType: kgen, Inputs: [ { Name: image, Dimensions: [-1,48,48,1], Datatype: UInt8, Format: (Linear) Row }], Constants: [ { Name: c, Dimensions: [1], Datatype: Float, Format: (Linear) Row }], Outputs: [ { Name: x, Dimensions: [-1,4,48,48], Datatype: Int8, Format: (Linear) Row }], TacticName: a_0xc453, StreamId: 0, Metadata: 
Name: conv_1, LayerType: correlation, Inputs: [ { Name: x, Dimensions: [-1,4,48,48], Datatype: Int8, Format: (Linear) Row }], Constants: [ { Name: w, Dimensions: [32,4,3,3], Datatype: Int8, Format: (Linear) Row }, { Name: s, Dimensions: [1], Datatype: Float, Format: (Linear) Row }], Outputs: [ { Name: y, Dimensions: [-1,32,46,46], Datatype: Half, Format: (Linear) Row }], TacticName: b, StreamId: 0, Metadata: 
"""  # noqa: E501, W291


@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize("target", ["sm86", "sm89"])
def test_convolutions_run_in_the_type_asked_for(rtx: Flavour, trt_bundle: Bundle, precision: str, target: str) -> None:
    said: list[str] = []
    built = build_engine(rtx, trt_bundle.read("onnx", precision), precision, target=target, report=said.append)
    convolutions = [layer for layer in built.layers if layer.is_convolution]
    reads, writes = TYPES[precision]
    assert len(convolutions) == CONVOLUTIONS
    assert {layer.reads for layer in convolutions} == {(reads,)}
    assert {layer.constants[0] for layer in convolutions} == {reads}  # the weights
    if writes:
        assert {layer.writes for layer in convolutions} == {(writes,)}
    assert len(built.content) > 10_000
    assert f"for {target} with TensorRT for RTX" in said[0]
    assert len(said) > 2  # phases of the build


def test_the_shipped_model(rtx: Flavour) -> None:
    """Every precision of the default bundle: what is computed between two convolutions is told, kernel by kernel."""
    bundle = Bundle.load()
    for precision in TYPES:
        if bundle.find("onnx", precision) is None:
            continue
        built = build_engine(rtx, bundle.read("onnx", precision), precision, target="sm89")
        convolutions = [layer for layer in built.layers if layer.is_convolution]
        assert len(convolutions) == CONVOLUTIONS
        assert {layer.reads for layer in convolutions} == {(TYPES[precision][0],)}
        pools = [layer for layer in built.layers if layer.kind == "maxpool"]
        assert len(pools) == 4
        if precision == "int8-trt":  # all pools between convolutions work on Int8, so the Q lies before them
            assert [layer.reads + layer.writes for layer in pools[:3]] == [("Int8", "Int8")] * 3
            assert {layer.writes for layer in convolutions} == {("Half",)}
        # scale, bias and ReLU are part of each convolution, also in int8: no kernel of its own for them
        assert [layer.name for layer in built.layers if layer.kind == "kgen" and "Relu" in layer.name] == []


def test_a_model_in_another_precision_than_it_says(rtx: Flavour, trt_bundle: Bundle) -> None:
    with pytest.raises(BackendError, match="8 convolutions of the fp16 model in another type"):
        build_engine(rtx, trt_bundle.read("onnx", "fp32"), "fp16", target="sm86")


def test_export_has_tensorrt_read_what_is_for_it(rtx: Flavour) -> None:
    shipped = Bundle.load()
    assert check_with_tensorrt(shipped) == f"{rtx.name} {rtx.version}"
    for_cpus = replace(next(a for a in shipped.artefacts if a.precision == "int8"), precision="int8-trt")
    with pytest.raises(ModelError, match=r"int8-trt file is not for TensorRT: .* cannot read the int8-trt model"):
        check_with_tensorrt(replace(shipped, artefacts=(for_cpus,)))


def test_what_cannot_be_built(rtx: Flavour, trt_bundle: Bundle) -> None:
    model = trt_bundle.read("onnx")
    with pytest.raises(UnavailableError, match=r"cannot build for sm90; it can for: .*sm86, sm89"):
        build_engine(rtx, model, "fp32", target="sm90")
    with pytest.raises(BackendError, match=r"cannot read the fp32 model: .*Failed to parse") as caught:
        build_engine(rtx, model[: len(model) // 2], "fp32", target="sm86")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="1 <= opt <= max; got opt 8, max 4"):
        BuildOptions(opt_batch=8, max_batch=4)


def test_an_engine_is_not_run_without_a_gpu(rtx: Flavour, trt_bundle: Bundle) -> None:
    cuda = Cuda()
    if not int(cuda.runtime.cudaGetDeviceCount()[0]):
        pytest.skip("there is a GPU")
    with pytest.raises(UnavailableError, match=r"^The trt backend cannot use cuda here: [^\n]+$"):
        cuda.gpu()
    with pytest.raises(BackendError, match=r"CUDA's cudaMalloc failed: cudaError\w+: "):
        cuda.call("cudaMalloc", 4)
    built = build_engine(rtx, trt_bundle.read("onnx", "fp16"), "fp16", target="sm86")
    with pytest.raises(BackendError, match=r"does not take the engine: .*CUDA"):
        Runner(rtx, cuda, built.content)


def test_the_profile_is_part_of_the_engine(rtx: Flavour, trt_bundle: Bundle, tmp_path: Path) -> None:
    model = trt_bundle.read("onnx", "fp16")
    options = BuildOptions(opt_batch=3, max_batch=5)
    assert options.shapes() == ((1, 48, 48, 1), (3, 48, 48, 1), (5, 48, 48, 1))
    timings = tmp_path / "kept.timings"
    assert build_engine(rtx, model, "fp16", target="sm86", options=options, timings=timings).content
    assert not timings.exists()  # RTX measures nothing while building


def test_reading_a_listing() -> None:
    layers = parse_layers(["Engine generation completed", LISTING])
    assert [(layer.kind, layer.reads, layer.constants, layer.writes) for layer in layers] == [
        ("kgen", ("UInt8",), ("Float",), ("Int8",)),
        ("correlation", ("Int8",), ("Int8", "Float"), ("Half",)),
    ]
    assert summary(layers) == {"layers": 2, "convolutions": {"Int8 -> Half": 1}, "generated_kernels": 1}
    assert wrong_convolutions(layers, "int8-trt") == []
    assert wrong_convolutions(layers, "fp16") == ["conv_1"]
