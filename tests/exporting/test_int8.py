"""The steps of quantisation, each on its own."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import Any

import numpy as np
import pytest

from fer_deploy.bundle.manifest import Bundle
from fer_deploy.exporting.int8.graph import Convolution, Graph
from fer_deploy.exporting.int8.observe import BINS, METHODS, Patches, choose_range, extents, histograms, patches, step
from fer_deploy.exporting.int8.weights import equalise, round_weights

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fer-deploy[export]'")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'fer-deploy[onnx]'")


@pytest.fixture
def proto(tiny_bundle: Bundle) -> Any:
    return onnx.load_from_string(tiny_bundle.read("onnx"))


def run(proto: Any, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"image": images})[0]
    return found


def convolution(weights: np.ndarray, groups: int = 1) -> Convolution:
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    return Convolution(node, weights, np.zeros(len(weights)), groups, (0, 0, 0, 0), (1, 1), True)


def test_equalising_changes_nothing_but_the_ranges(proto: Any, images: np.ndarray) -> None:
    before = run(proto, images)
    graph = Graph(proto.graph)
    tensors = [c.source for c in graph.convolutions()]
    largest = {name: extent.high for name, extent in extents(proto, tensors, images).items()}
    assert equalise(graph, largest, 0.7) == 7
    graph.prune()
    onnx.checker.check_model(proto, full_check=True)
    np.testing.assert_allclose(run(proto, images), before, atol=1e-5)
    found = {name: extent.high for name, extent in extents(proto, tensors, images).items()}

    def spread(values: np.ndarray) -> float:
        return float(values.max() / np.median(values))

    assert np.mean([spread(found[n]) for n in tensors[1:]]) < 0.8 * np.mean([spread(largest[n]) for n in tensors[1:]])


def test_channels_that_more_than_one_reads_are_left_alone() -> None:
    """A residual connection: the sum would no longer be the same."""
    weights = onnx.numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "w")
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["a"], name="one"),
        onnx.helper.make_node("Conv", ["a", "w"], ["b"], name="two"),
        onnx.helper.make_node("Add", ["a", "b"], ["y"], name="sum"),
    ]
    ends = [onnx.helper.make_tensor_value_info(name, 1, ["N", 2, 4, 4]) for name in ("x", "y")]
    graph = Graph(onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights]))
    assert equalise(graph, {"a": np.array([1.0, 9.0])}, 0.5) == 0


def test_histograms_count_everything_in_any_batches(proto: Any, images: np.ndarray) -> None:
    name = Graph(proto.graph).convolutions()[3].source
    extent = extents(proto, [name], images)[name]
    span = (float(extent.low.min()), float(extent.high.max()))
    counts, edges = histograms(proto, {name: span}, images)[name]
    assert (len(counts), len(edges)) == (BINS, BINS + 1)
    assert counts.sum() % len(images) == 0
    halves = [histograms(proto, {name: span}, part)[name][0] for part in (images[:50], images[50:])]
    np.testing.assert_array_equal(halves[0] + halves[1], counts)


def test_memory_does_not_grow_with_the_pictures(proto: Any, images: np.ndarray) -> None:
    names = [c.source for c in Graph(proto.graph).convolutions()]

    def peak(given: np.ndarray) -> int:
        tracemalloc.start()
        extents(proto, names, given)
        histograms(proto, dict.fromkeys(names, (0.0, 9.0)), given)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(np.concatenate([images] * 6)) < 1.2 * peak(images)


def test_patches_are_what_a_convolution_reads(proto: Any, images: np.ndarray) -> None:
    """The mean of a layer's output is its weights times the mean patch."""
    second = Graph(proto.graph).convolutions()[1]
    seen = patches(proto, [second], images, seed=0)[second.name]
    opened = onnx.ModelProto()
    opened.CopyFrom(proto)
    opened.graph.output.append(onnx.helper.make_tensor_value_info(second.node.output[0], 1, None))
    session = ort.InferenceSession(opened.SerializeToString(), providers=["CPUExecutionProvider"])
    value = session.run([second.node.output[0]], {"image": images})[0]
    expected = value.mean(axis=(0, 2, 3))
    found = np.einsum("goi,gi->go", second.rows, seen.mean).ravel() + second.bias
    np.testing.assert_allclose(found, expected, atol=0.05 * value.std())


def skewed(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    values = np.abs(np.random.default_rng(seed).standard_normal(200_000)) ** 2
    return np.histogram(np.append(values, 60.0), BINS, range=(0, 60))


def test_patches_too_large_to_be_correlated_are_left_out(proto: Any, images: np.ndarray) -> None:
    """A convolution over the whole of many channels would take gigabytes: its weights are rounded to the nearest."""
    convolutions = Graph(proto.graph).convolutions()
    huge = dataclasses.replace(convolutions[-1], weights=np.zeros((2, 64, 9, 9)))
    found = patches(proto, [*convolutions[:-1], huge], images, 0)
    assert huge.name not in found
    assert len(found) == len(convolutions) - 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_ranges_hold_zero_and_no_more_than_was_seen(method: str, symmetric: bool) -> None:
    counts, edges = skewed()
    low, high = choose_range(counts, edges, method, percentile=99.9, symmetric=symmetric)
    assert low == (-high if symmetric else 0)
    assert 0 < high <= 60
    assert (high == 60) == (method == "min-max")


def test_mse_is_the_best_range_for_the_squared_error() -> None:
    counts, edges = skewed()
    centres = (edges[1:] + edges[:-1]) / 2

    def error(high: float) -> float:
        size = step((0.0, high), symmetric=False)
        rounded = np.clip(np.round(centres / size), 0, 255) * size
        return float((counts * (rounded - centres) ** 2).sum())

    _, best = choose_range(counts, edges, "mse", percentile=0, symmetric=False)
    assert error(best) <= min(error(60 * share) for share in np.linspace(0.3, 1, 15))


def test_ranges_on_both_sides_of_zero() -> None:
    values = np.random.default_rng(0).normal(1, 2, 100_000)
    counts, edges = np.histogram(values, BINS)
    for method in METHODS:
        low, high = choose_range(counts, edges, method, percentile=99.0, symmetric=False)
        assert edges[0] - 1e-9 <= low < 0 < high <= edges[-1] + 1e-9
    low, high = choose_range(counts, edges, "percentile", percentile=99.0, symmetric=False)
    assert np.mean((values >= low) & (values <= high)) == pytest.approx(0.99, abs=0.002)


def test_what_was_never_active() -> None:
    assert choose_range(np.zeros(4, np.int64), np.linspace(0, 1, 5), "mse", percentile=99, symmetric=False) == (0, 1)


@pytest.mark.parametrize("groups", [1, 2])
def test_compensated_rounding_keeps_the_output(groups: int) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, (8, 12 // groups, 3, 3))
    layer = convolution(weights, groups)
    n = weights[0].size
    inputs = np.maximum(rng.normal(0, 1, (groups, 5000, 6)) @ rng.normal(0, 1, (groups, 6, n)) + 0.3, 0)
    mean = inputs.mean(axis=1)
    covariance = np.stack([np.cov(rows.T, bias=True) for rows in inputs])

    def error(seen: Patches | None) -> float:
        scales, steps, bias = round_weights(layer, seen, levels=64, per_channel=True, noise=0.0)
        assert np.abs(steps).max() <= 64
        np.testing.assert_array_equal(steps, np.round(steps))
        rounded = convolution(steps * scales[:, None, None, None], groups).rows
        found = np.einsum("goi,gni->gno", rounded, inputs) + bias.reshape(groups, 1, -1)
        return float(((found - np.einsum("goi,gni->gno", layer.rows, inputs)) ** 2).mean())

    assert error(Patches(mean, covariance)) < 0.5 * error(None)


def test_one_scale_for_all_channels() -> None:
    layer = convolution(
        np.random.default_rng(0).normal(0, 1, (4, 3, 3, 3)) * np.array([1, 2, 3, 4])[:, None, None, None]
    )
    one, _, _ = round_weights(layer, None, levels=127, per_channel=False, noise=0.0)
    each, _, _ = round_weights(layer, None, levels=127, per_channel=True, noise=0.0)
    assert len(set(one.tolist())) == 1
    assert one[0] == each.max()
    assert len(set(each.tolist())) == 4


@pytest.mark.parametrize("half", [False, True])
def test_a_channel_without_weights(half: bool) -> None:
    weights = np.random.default_rng(0).normal(0, 1, (4, 3, 3, 3))
    weights[2] = 0
    scales, steps, _ = round_weights(convolution(weights), None, levels=127, per_channel=True, noise=0.0, half=half)
    assert (scales > 0).all()
    assert not steps[2].any()
    np.testing.assert_allclose(steps * scales[:, None, None, None], weights, atol=0.02)


def test_plain_pictures_are_recognised(proto: Any) -> None:
    graph = Graph(proto.graph)
    first, second = graph.convolutions()[:2]
    assert graph.pixel_offset(first.source) == 0
    assert graph.pixel_offset(second.source) is None
