"""Every precision is made, runs where it is for, and is near Keras; a wrong recipe is found out by export itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.bundle.reference_predictions import read_outputs
from fer_deploy.errors import MissingDependencyError, ModelError, UsageError
from fer_deploy.exporting.export_recipe import Quantisation
from fer_deploy.exporting.exporter import ONNX_FILES, export_bundle
from fer_deploy.exporting.int8.graph import Graph, check_weights
from fer_deploy.exporting.int8.quantise import quantise
from fer_deploy.exporting.parity import ImageSet, check_parity

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fer-deploy[export]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'fer-deploy[onnx]'")


def model_of(bundle: Bundle, precision: str) -> Any:
    return onnx.load_from_string(bundle.read("onnx", precision))


@pytest.fixture
def parity_of(full_bundle: Bundle, tmp_path: Path, images: np.ndarray) -> Callable[[str, Any], Any]:
    """Returns a function that compares a changed file of one precision with the tiny Keras model."""

    def check(precision: str, proto: Any) -> Any:
        (tmp_path / "model.keras").write_bytes(full_bundle.read("keras"))
        (tmp_path / "changed.onnx").write_bytes(proto.SerializeToString())
        artefacts = (
            describe_file(tmp_path, "model.keras", "keras", "fp32", {}),
            describe_file(tmp_path, "changed.onnx", "onnx", precision, {}),
        )
        return check_parity(replace(full_bundle, path=tmp_path, artefacts=artefacts), ImageSet("drawn", images))

    return check


def test_all_precisions_are_made_and_proved(full_bundle: Bundle) -> None:
    variants = {a.precision: a for a in full_bundle.artefacts if a.format == "onnx"}
    assert {precision: variant.file for precision, variant in variants.items()} == ONNX_FILES
    runs = {
        precision: {(p["backend"], p["effective"], p["simulated"], p["batch"]) for p in variant.made_with["parity"]}
        for precision, variant in variants.items()
    }
    both = {(name, "int8", False, batch) for name in ("onnx", "openvino") for batch in (1, 37)}
    assert runs["int8"] == both
    assert runs["int8-trt"] == {("onnx", "int8", True, batch) for batch in (1, 37)}
    assert runs["fp16"] == {(name, "fp32", simulated, batch) for name, _, simulated, batch in both}
    assert variants["fp16"].size < 0.6 * variants["fp32"].size


def test_the_manifest_says_what_was_calibrated_with(full_bundle: Bundle) -> None:
    for precision in ("int8", "int8-trt"):
        artefact = full_bundle.find("onnx", precision)
        assert artefact is not None
        used = artefact.made_with["calibration"]
        assert (used["partition"], used["count"], used["seed"], used["forced"]) == ("Training", 111, 0, False)
        assert len(used["fingerprint"]) == 64
        assert artefact.made_with["quantisation"]["method"]
        assert {"onnx", "onnxruntime"} <= set(artefact.made_with["tools"])


def test_keras_answers_are_recorded(full_bundle: Bundle, tiny_bundle: Bundle) -> None:
    outputs, without_data = read_outputs(full_bundle), read_outputs(tiny_bundle)
    assert outputs is not None
    assert without_data is not None
    assert list(outputs.partitions) == ["PublicTest"]
    np.testing.assert_allclose(outputs.partitions["PublicTest"].probabilities, outputs.probe, atol=1e-6)
    np.testing.assert_allclose(without_data.probe, outputs.probe, atol=1e-6)
    assert not without_data.partitions


@pytest.mark.parametrize("precision", ["fp16", "int8", "int8-trt"])
def test_the_contract_and_the_metadata_stay(full_bundle: Bundle, precision: str) -> None:
    made, float_ = model_of(full_bundle, precision), model_of(full_bundle, "fp32")
    onnx.checker.check_model(made, full_check=True)
    assert made.graph.input == float_.graph.input
    assert made.graph.output == float_.graph.output
    assert sorted(map(str, made.metadata_props)) == sorted(map(str, float_.metadata_props))


def test_fp16_weights_are_halves(full_bundle: Bundle) -> None:
    kinds = {tensor.data_type for tensor in model_of(full_bundle, "fp16").graph.initializer}
    assert onnx.TensorProto.FLOAT not in kinds
    assert onnx.TensorProto.FLOAT16 in kinds


def test_int8_cannot_saturate_without_vnni(full_bundle: Bundle) -> None:
    """Two products of uint8 and a weight, added in 16 bits: the worst case fits."""
    graph = Graph(model_of(full_bundle, "int8").graph)
    weights = [graph.value(name) for name, tensor in graph.constants.items() if tensor.data_type == 3 and tensor.dims]
    largest = [float(np.abs(values).max()) for values in weights if values.ndim == 4]
    assert len(largest) == 8
    assert max(largest) > 60
    assert 2 * 255 * max(largest) <= np.iinfo(np.int16).max


def test_int8_trt_is_as_tensorrt_takes_it(full_bundle: Bundle) -> None:
    """Q/DQ before each convolution and on its weights, nowhere else, so that what follows fuses into it."""
    graph = Graph(model_of(full_bundle, "int8-trt").graph)
    kinds = [node.op_type for node in graph.proto.node]
    assert kinds.count("QuantizeLinear") == kinds.count("Conv") == 8
    assert kinds.count("DequantizeLinear") == 16
    for node in graph.proto.node:
        if node.op_type == "Conv":
            assert {graph.producer[name].op_type for name in node.input[:2]} == {"DequantizeLinear"}
            assert node.input[2] in graph.constants
    first = next(node for node in graph.proto.node if node.op_type == "QuantizeLinear")
    assert graph.producer[first.input[0]].op_type == "Sub"  # pixels - 128 in steps of 1: nothing is lost
    assert graph.value(first.input[1]) == 1


def test_exports_are_reproducible(
    full_bundle: Bundle, tiny_model_path: Path, drawn_fer2013: Path, tmp_path: Path
) -> None:
    again = export_bundle(tiny_model_path, tmp_path / "again", calibration=drawn_fer2013)
    for precision in ONNX_FILES:
        assert again.read("onnx", precision) == full_bundle.read("onnx", precision)


@pytest.mark.parametrize("precision", ["int8", "int8-trt"])
def test_a_layer_of_twice_the_scale_is_found(
    full_bundle: Bundle, parity_of: Callable[[str, Any], Any], precision: str
) -> None:
    proto = model_of(full_bundle, precision)
    scale = next(tensor for tensor in proto.graph.initializer if tensor.name == "conv_4.own_1_scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(2 * onnx.numpy_helper.to_array(scale), scale.name))
    with pytest.raises(ModelError, match=f"The exported {precision} file does not compute what Keras computes"):
        parity_of(precision, proto)


def test_a_wrong_zero_point_is_found(full_bundle: Bundle, parity_of: Callable[[str, Any], Any]) -> None:
    proto = model_of(full_bundle, "int8")
    node = [node for node in proto.graph.node if node.op_type == "QuantizeLinear"][3]
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.uint8(40), "wrong"))
    node.input[2] = "wrong"
    with pytest.raises(ModelError, match=r"The exported int8 file does not (compute what Keras computes|run)"):
        parity_of("int8", proto)


def test_pixels_that_are_not_scaled_are_found(full_bundle: Bundle, parity_of: Callable[[str, Any], Any]) -> None:
    """As where the scaling was neither folded nor left in the graph."""
    proto = model_of(full_bundle, "fp16")
    graph = Graph(proto.graph)
    first = graph.convolutions()[0]
    weights = (first.weights * 64).astype(np.float16)
    graph.constants[first.node.input[1]].CopyFrom(onnx.numpy_helper.from_array(weights, first.node.input[1]))
    with pytest.raises(ModelError, match="The exported fp16 file does not compute what Keras computes"):
        parity_of("fp16", proto)


def test_a_float_file_under_the_name_of_int8_is_found(
    full_bundle: Bundle, parity_of: Callable[[str, Any], Any]
) -> None:
    with pytest.raises(ModelError, match="computes the int8 model in fp32"):
        parity_of("int8", model_of(full_bundle, "fp32"))
    with pytest.raises(ModelError, match="nothing in it is quantised"):
        check_weights(model_of(full_bundle, "fp32"), "int8")


def test_weights_of_full_range_are_refused(full_bundle: Bundle) -> None:
    """Right on this machine if it has VNNI, and wrong on those without: so no run can tell."""
    with pytest.raises(ModelError, match=r"reach 127 steps, at most 64 .* saturate on CPUs without VNNI"):
        check_weights(model_of(full_bundle, "int8-trt"), "int8")


def test_scales_in_half_precision_are_refused_for_cpus(full_bundle: Bundle) -> None:
    proto = model_of(full_bundle, "int8")
    scale = next(tensor for tensor in proto.graph.initializer if tensor.name == "relu_1_scale")
    half = onnx.numpy_helper.to_array(scale).astype(np.float16)
    scale.CopyFrom(onnx.numpy_helper.from_array(half, scale.name))
    with pytest.raises(ModelError, match=r"scale of relu_1_QuantizeLinear .* not float32"):
        check_weights(proto, "int8")


@pytest.mark.parametrize("half", [True, False])
def test_what_is_not_int8_for_tensorrt_is_in_halves(full_bundle: Bundle, images: np.ndarray, half: bool) -> None:
    recipe = Quantisation(half_trt=half, rounding="nearest", equalise=0.0)
    content = quantise(full_bundle.read("onnx"), images[:8], recipe, ["int8-trt"])["int8-trt"]
    graph = onnx.load_from_string(content).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    scales = {kinds[node.input[1]] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    assert scales == {onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT}


def test_what_tensorrt_refuses_is_refused(full_bundle: Bundle) -> None:
    with pytest.raises(ModelError, match=r"zero point .* is not an int8 0"):
        check_weights(model_of(full_bundle, "int8"), "int8-trt")


def test_a_weight_beyond_fp16_is_refused(full_bundle: Bundle) -> None:
    from fer_deploy.exporting.fp16 import to_fp16

    proto = model_of(full_bundle, "fp32")
    graph = Graph(proto.graph)
    graph.replace(graph.convolutions()[3].node, 2, np.full(8, 1e6))
    with pytest.raises(ModelError, match="beyond 65,504"):
        to_fp16(proto.SerializeToString())


def test_only_what_was_asked_for(tiny_model_path: Path, drawn_fer2013: Path, tmp_path: Path) -> None:
    bundle = export_bundle(tiny_model_path, tmp_path / "b", precisions=("int8",), calibration=drawn_fer2013)
    assert [a.precision for a in bundle.artefacts if a.format == "onnx"] == ["fp32", "int8"]


def test_extras_add_to_the_bundle(tiny_model_path: Path, tmp_path: Path) -> None:
    def add(bundle: Bundle, report: Callable[[str], None]) -> tuple[Any, ...]:
        assert bundle.find("onnx")
        (bundle.path / "engines").mkdir()
        (bundle.path / "engines/a.engine").write_bytes(b"an engine")
        return (describe_file(bundle.path, "engines/a.engine", "engine", "fp32", {}, "sm86"),)

    bundle = export_bundle(tiny_model_path, tmp_path / "b", precisions=("fp32",), extras=(add,))
    assert bundle.read("engine", "fp32", "sm86") == b"an engine"


def test_int8_without_pictures_is_an_error(tiny_model_path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"needs Training pictures to calibrate with.*--calibration"):
        export_bundle(tiny_model_path, tmp_path / "b", precisions=("int8",))
    with pytest.raises(UsageError, match="no precision 'fp8'; there are: fp32, fp16, int8, int8-trt"):
        export_bundle(tiny_model_path, tmp_path / "b", precisions=("fp8",))


def test_int8_without_onnxruntime(
    tiny_model_path: Path, drawn_fer2013: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"onnxruntime.*pip install 'fer-deploy\[export,onnx\]'"):
        export_bundle(tiny_model_path, tmp_path / "b", precisions=("int8",), data=drawn_fer2013)
