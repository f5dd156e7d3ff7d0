"""The check can fail: models damaged as they are in real life, each caught by ``verify``.

As a script it prints a table of every damage and what is said about it:

    python tests/evaluation/test_damage.py fer2013.zip [BUNDLE]
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_deploy.bundle.manifest import Bundle, describe_file
from fer_deploy.bundle.reference_predictions import read_outputs
from fer_deploy.data.fer2013 import PUBLIC, Partition
from fer_deploy.data.fer2013_reader import load_fer2013
from fer_deploy.errors import BundleError, ModelError
from fer_deploy.exporting.int8.graph import check_weights
from fer_deploy.labels import LABELS
from fer_deploy.system.machine import machine_info
from fer_deploy.verification.reference import Reference, recorded_predictions, reference_of
from fer_deploy.verification.self_test import self_test
from fer_deploy.verification.tolerances import Gate
from fer_deploy.verification.variants import select
from fer_deploy.verification.verifier import Verification, VerificationOptions, verify

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fer-deploy[export]'")

STRIDE = 5
"""718 pictures of PublicTest, of all classes: copies number each class by itself, so that names take turns by six or
seven classes, and a stride of 6 or 7 would pick few of them."""


def _convolution(model: Any, index: int) -> Any:
    return [node for node in model.graph.node if node.op_type == "Conv"][index]


def _maker(model: Any, name: str) -> Any:
    return next((node for node in model.graph.node if name in node.output), None)


def _change(model: Any, name: str, change: Callable[[Any], Any]) -> None:
    """Changes the values of a constant in place."""
    (constant,) = (each for each in model.graph.initializer if each.name == name)
    values = onnx.numpy_helper.to_array(constant)
    constant.CopyFrom(onnx.numpy_helper.from_array(change(values).astype(values.dtype), name))


def _constant(model: Any, name: str, values: Any) -> str:
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values), name))
    return name


def weights_scaled(model: Any, factor: float = 1.3) -> None:
    """The weights of one layer: by their values, in int8 by their scale."""
    name = _convolution(model, 4).input[1]
    step = _maker(model, name)
    _change(model, step.input[1] if step else name, lambda values: values * factor)


def weight_scale_halved(model: Any) -> None:
    weights_scaled(model, 0.5)


def activation_range_too_small(model: Any) -> None:
    """What one layer takes is cut off at an eighth of its range, as after calibrating on dark pictures.

    Half of its range is no damage: hardly any value lies beyond, and the others are held more finely.
    """
    step = _maker(model, _convolution(model, 4).input[0])
    quantise = _maker(model, step.input[0])
    for scale in {step.input[1], quantise.input[1]}:
        _change(model, scale, lambda values: values / 8)


def full_range(model: Any) -> None:
    """Integer weights of all 8 bits for the same values: right everywhere but on CPUs without VNNI."""
    for weights, scale in _integer_weights(model):
        _change(model, weights, lambda values: np.clip(2 * values.astype(np.int32), -128, 127))
        _change(model, scale, lambda values: values / 2)


def _integer_weights(model: Any) -> list[tuple[str, str]]:
    """Names of all int8 constants of more than one dimension, with those of their scales."""
    constants = {each.name: each for each in model.graph.initializer if each.data_type == onnx.TensorProto.INT8}
    steps = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants]
    return [(node.input[0], node.input[1]) for node in steps if len(constants[node.input[0]].dims) > 1]


def classes_permuted(model: Any) -> None:
    """In alphabetical order, as folders are listed."""
    _maker(model, "probabilities").output[0] = "unordered"
    order = _constant(model, "order", [LABELS.index(label) for label in sorted(LABELS)])
    model.graph.node.append(onnx.helper.make_node("Gather", ["unordered", order], ["probabilities"], axis=1))


def _on_pixels(model: Any, factor: float, offset: float) -> None:
    """Puts ``pixel * factor + offset`` behind the cast to float."""
    nodes = model.graph.node
    cast = next(node for node in nodes if node.op_type == "Cast" and "image" in node.input)
    for node in nodes:
        node.input[:] = ["normalised" if name == cast.output[0] else name for name in node.input]
    names = _constant(model, "factor", np.float32(factor)), _constant(model, "offset", np.float32(offset))
    position = list(nodes).index(cast) + 1
    nodes.insert(position, onnx.helper.make_node("Mul", [cast.output[0], names[0]], ["scaled"]))
    nodes.insert(position + 1, onnx.helper.make_node("Add", ["scaled", names[1]], ["normalised"]))


def normalised_twice(model: Any) -> None:
    _on_pixels(model, 1 / 64, -2)


def not_normalised(model: Any) -> None:
    """Undoes the ``x / 64 - 2`` that the first convolution has folded in."""
    _on_pixels(model, 64, 128)


def crop_shifted(model: Any, pixels: int = 3) -> None:
    for node in model.graph.node:
        node.input[:] = ["shifted" if name == "image" else name for name in node.input]
    end, axes = np.iinfo(np.int64).max, [1, 2]
    cut = [_constant(model, name, values) for name, values in (("a", [pixels] * 2), ("b", [end] * 2), ("c", axes))]
    pads = _constant(model, "pads", [0, 0, 0, 0, 0, pixels, pixels, 0])
    model.graph.node.insert(0, onnx.helper.make_node("Slice", ["image", *cut], ["cut"]))
    model.graph.node.insert(1, onnx.helper.make_node("Pad", ["cut", pads], ["shifted"], mode="edge"))


def another_epoch(model: Any) -> None:
    """Weights a little way off, as some epochs before: nearly as accurate, but not this model."""
    rng = np.random.default_rng(0)
    for constant in list(model.graph.initializer):
        values = onnx.numpy_helper.to_array(constant)
        if values.ndim > 1 and values.dtype == np.float32:
            noise = rng.normal(0, 0.02 * values.std(), values.shape)
            _change(model, constant.name, lambda values, noise=noise: values + noise)


DAMAGES: list[tuple[str, Callable[[Any], None]]] = [
    ("fp32", weights_scaled),
    ("fp32", classes_permuted),
    ("fp32", normalised_twice),
    ("fp32", not_normalised),
    ("fp32", crop_shifted),
    ("fp32", another_epoch),
    ("int8", weights_scaled),
    ("int8", weight_scale_halved),
    ("int8", activation_range_too_small),
    ("int8", classes_permuted),
    ("int8", crop_shifted),
]


def damaged(bundle: Bundle, folder: Path, precision: str, damage: Callable[[Any], None]) -> Bundle:
    """Copies a bundle and damages one model of it, with a manifest that fits: what a bad export would have written."""
    shutil.copytree(bundle.path, folder)
    artefact = bundle.find("onnx", precision)
    assert artefact
    model = onnx.load_model_from_string(bundle.read("onnx", precision))
    damage(model)
    (folder / artefact.file).write_bytes(model.SerializeToString())
    new = describe_file(folder, artefact.file, "onnx", precision, {})
    artefacts = tuple(new if each == artefact else each for each in bundle.artefacts)
    dataclasses.replace(bundle, path=folder, artefacts=artefacts).save()
    return Bundle.load(folder)


def flipped(bundle: Bundle, folder: Path, position: float) -> Bundle:
    """Copies a bundle and flips one bit of its fp32 model, a part of the way into the file."""
    shutil.copytree(bundle.path, folder)
    file = folder / "model.onnx"
    content = bytearray(file.read_bytes())
    content[int(position * len(content))] ^= 1
    file.write_bytes(content)
    return Bundle.load(folder)


def prove(
    bundle: Bundle, precision: str, images: Partition, reference: Reference, backend: str = "openvino"
) -> Verification:
    target = float((reference.probabilities.argmax(axis=1) == images.labels).mean())  # a part of a set has its own
    gate = Gate(target, tolerance_points=1, max_drift_points=1)  # one picture of 718 is 0.14 points
    return verify(bundle, images, PUBLIC, select(backend, precision), gate, VerificationOptions(), reference)


def read_images(source: Path) -> Partition:
    return load_fer2013(source, tests_only=True).partition(PUBLIC)


def thinned(bundle: Bundle, whole: Partition) -> tuple[Partition, Reference]:
    """Takes every fifth picture, and Keras's answers to these: the recorded ones, else it runs."""
    part = whole.take(np.arange(0, len(whole), STRIDE))
    outputs = read_outputs(bundle)
    recorded = None if outputs is None else recorded_predictions(outputs, whole.images)
    if recorded is not None:
        return part, Reference(recorded[::STRIDE], "recorded", None, ())
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed: pip install 'fer-deploy[export]'")
    return part, reference_of(bundle, part.images[..., None], 64, None, lambda done: None)


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="module")
def thin(shipped: Bundle, fer2013_path: Path) -> tuple[Partition, Reference]:
    return thinned(shipped, read_images(fer2013_path))


@pytest.fixture(scope="module")
def images(thin: tuple[Partition, Reference]) -> Partition:
    return thin[0]


@pytest.fixture(scope="module")
def reference(thin: tuple[Partition, Reference]) -> Reference:
    return thin[1]


@pytest.mark.fer2013
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_shipped_model_passes(shipped: Bundle, precision: str, images: Partition, reference: Reference) -> None:
    _needs(shipped, precision)
    assert prove(shipped, precision, images, reference).failures == ()


@pytest.mark.fer2013
@pytest.mark.parametrize(("precision", "damage"), DAMAGES, ids=lambda value: getattr(value, "__name__", value))
def test_each_damage_is_caught_on_real_pictures(
    shipped: Bundle,
    precision: str,
    damage: Callable[[Any], None],
    images: Partition,
    reference: Reference,
    tmp_path: Path,
) -> None:
    _needs(shipped, precision)
    found = prove(damaged(shipped, tmp_path / "bundle", precision, damage), precision, images, reference)
    assert not found.passed
    assert found.failures[0].startswith(f"openvino/{precision}: ")


@pytest.mark.parametrize("damage", [damage for precision, damage in DAMAGES if precision == "fp32"])
def test_without_pictures_the_self_test_catches_a_damaged_fp32_file(
    shipped: Bundle, damage: Callable[[Any], None], tmp_path: Path
) -> None:
    broken = damaged(shipped, tmp_path / "bundle", "fp32", damage)
    outcome = self_test(broken, select("openvino", "fp32"))
    assert outcome.failures[0].startswith("openvino/fp32: ")
    assert outcome.rows[-1].accuracy is None


@pytest.mark.parametrize("damage", [damage for precision, damage in DAMAGES if precision == "int8"])
def test_without_pictures_the_self_test_catches_a_damaged_int8_file(
    shipped: Bundle, damage: Callable[[Any], None], tmp_path: Path
) -> None:
    _needs(shipped, "int8")
    broken = damaged(shipped, tmp_path / "bundle", "int8", damage)
    assert self_test(broken, select("openvino", "int8")).failures[0].startswith("openvino/int8: ")


@pytest.mark.parametrize("position", [0.0, 0.37, 0.99])
def test_one_flipped_byte_is_refused_before_loading(shipped: Bundle, position: float, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="SHA-256 differs"):
        self_test(flipped(shipped, tmp_path / "bundle", position), select("onnx,openvino", "fp32"))


def test_int8_weights_of_all_8_bits_are_refused_by_export_on_every_cpu(shipped: Bundle) -> None:
    _needs(shipped, "int8")
    model = onnx.load_model_from_string(shipped.read("onnx", "int8"))
    check_weights(model, "int8")
    full_range(model)
    with pytest.raises(ModelError, match="would saturate on CPUs without VNNI"):
        check_weights(model, "int8")


@pytest.mark.fer2013
def test_int8_weights_of_all_8_bits_lose_agreement_on_a_cpu_without_vnni(
    shipped: Bundle, images: Partition, reference: Reference, tmp_path: Path
) -> None:
    """How much depends on the network: with some it is less than the gate would notice, so ``export`` refuses all."""
    _needs(shipped, "int8")
    if (cpu := machine_info()["cpu_class"]) not in ("avx2", "avx512"):
        pytest.skip(f"this CPU ({cpu}) adds products in 32 bits and computes such a file rightly")
    broken = damaged(shipped, tmp_path / "bundle", "int8", full_range)
    as_it_is, changed = (prove(each, "int8", images, reference, "onnx").rows[-1] for each in (shipped, broken))
    assert changed.agreement < as_it_is.agreement
    assert changed.mean_abs_difference > 1.2 * as_it_is.mean_abs_difference


def _needs(bundle: Bundle, precision: str) -> None:
    if bundle.find("onnx", precision) is None:
        pytest.skip(f"the shipped bundle has no {precision} file")


def table(bundle: Bundle, images: Partition, reference: Reference) -> Iterator[tuple[str, str, str]]:
    """Gives for each damage its name, what ``verify --data`` says of it and what the self-test says."""
    present = [precision for precision in ("fp32", "int8") if bundle.find("onnx", precision)]
    for precision in present:
        yield f"{precision} as it is", *_said(bundle, precision, images, reference)
    cases = [*DAMAGES, ("int8", full_range)]
    for precision, damage in cases:
        if precision in present:
            with tempfile.TemporaryDirectory() as folder:
                broken = damaged(bundle, Path(folder) / "bundle", precision, damage)
                backend = "onnx" if damage is full_range else "openvino"
                yield f"{precision} {damage.__name__}", *_said(broken, precision, images, reference, backend)
    with tempfile.TemporaryDirectory() as folder:
        broken = flipped(bundle, Path(folder) / "bundle", 0.37)
        try:
            prove(broken, "fp32", images, reference)
        except BundleError as error:
            yield "fp32 one byte flipped", str(error).replace(folder, "..."), "the same"


def _said(
    bundle: Bundle, precision: str, images: Partition, reference: Reference, backend: str = "openvino"
) -> tuple[str, str]:
    said = []
    for outcome in (
        prove(bundle, precision, images, reference, backend),
        self_test(bundle, select(backend, precision)),
    ):
        row = outcome.rows[-1]
        drift = "" if row.accuracy is None else f"{row.accuracy:.2%}, drift {row.drift_points:+.2f}, "
        verdict = outcome.failures[0] if outcome.failures else f"passed (CPU class {row.machine})"
        said.append(f"{verdict} [{drift}same {row.agreement:.2%}, mean difference {row.mean_abs_difference:.1e}]")
    return said[0], said[1]


if __name__ == "__main__":
    subject = Bundle.load(sys.argv[2] if len(sys.argv) > 2 else None)
    for name, on_data, without in table(subject, *thinned(subject, read_images(Path(sys.argv[1])))):
        print(f"{name}\n  with --data: {on_data}\n  self-test:   {without}", flush=True)
