"""Keras -> ONNX fp32, in the contract that every model form obeys.

The heavy packages of an export: imported on use, on the TensorFlow backend, without their noise.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fer_deploy import __version__
from fer_deploy.bundle.manifest import input_contract
from fer_deploy.errors import MissingDependencyError, ModelError, UsageError, one_line
from fer_deploy.exporting.folding import (
    fold_channel_repeat,
    fold_dense_scaling,
    fold_flatten_order,
    fold_pixel_scaling,
)
from fer_deploy.labels import INPUT_SHAPE, LABELS

OPSET: Final = 17
INPUT: Final = "image"
OUTPUT: Final = "probabilities"
BATCH: Final = "N"


def convert(model: Any, source_sha256: str, tools: Toolchain) -> bytes:
    """Converts a float32 Keras model.

    Args:
        model: Input (None, 48, 48, 1), output (None, 7), every layer in float32.
        source_sha256: Digest of the file that the model was loaded from; goes into the metadata.
        tools: The imported packages.

    Returns:
        An ONNX file: input ``image`` uint8 (N, 48, 48, 1), output ``probabilities`` float32 (N, 7), batch
        normalisation folded into the convolutions before it, metadata of ``metadata()``.

    Raises:
        ModelError: The model does not convert into one valid graph of that contract.
    """
    try:
        proto = _trace(model, tools)
        _replace_erfc(proto.graph)
        fold_channel_repeat(proto.graph)
        fold_pixel_scaling(proto.graph)
        fold_dense_scaling(proto.graph)
        proto = tools.onnxslim.slim(proto)
        fold_flatten_order(proto.graph)
        _name_parts(proto.graph)
        proto.producer_name, proto.producer_version = "fer-deploy", __version__
        tools.onnx.helper.set_model_props(proto, metadata(source_sha256))
        tools.onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # three packages, each with error types of its own
        reason = one_line(error)
        raise ModelError(f"The model does not convert to ONNX ({type(error).__name__}): {reason}") from error
    _refuse_leftovers(proto.graph)
    content: bytes = proto.SerializeToString()
    return content


def metadata(source_sha256: str) -> dict[str, str]:
    """What the file says of itself in ``metadata_props``: JSON where it is not plain text."""
    return {
        "labels": json.dumps(list(LABELS)),
        "input": json.dumps(input_contract()),
        "fer_deploy_version": __version__,
        "source_sha256": source_sha256,
    }


def made_with(tools: Toolchain) -> Mapping[str, Any]:
    """How the file was made, for the manifest."""
    return {"opset": OPSET, "tools": tools.versions()}


def _trace(model: Any, tools: Toolchain) -> Any:
    """Traces inference (no dropout, moving statistics) into a ModelProto with the contract's names."""
    from tf2onnx import tf_loader

    tf = tools.tensorflow
    signature = [tf.TensorSpec((None, *INPUT_SHAPE), tf.uint8, name=INPUT)]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator, unused-ignore]
    def infer(image: Any) -> Any:
        return model(tf.cast(image, model.inputs[0].dtype), training=False)

    with tf.device("/CPU:0"):
        eagerly = tf.config.functions_run_eagerly()
        tf.config.run_functions_eagerly(True)  # so what a layer compiles by itself, as a grouped convolution, is traced
        try:
            traced = infer.get_concrete_function()
        finally:
            tf.config.run_functions_eagerly(eagerly)
        # named here, since constants that a layer keeps outside its weights are among the inputs of what was traced
        inputs, outputs = [traced.inputs[0].name], [traced.outputs[0].name]
        frozen = tf_loader.from_function(traced, inputs, outputs)
        proto, _ = tools.tf2onnx.convert.from_graph_def(
            frozen, "fer_deploy", inputs, outputs, OPSET, tensors_to_rename={inputs[0]: INPUT, outputs[0]: OUTPUT}
        )
    return proto


def _replace_erfc(graph: Any) -> None:
    """Writes TensorFlow's Erfc (of GELU), for which tf2onnx has no translation, as 1 - Erf, in place."""
    from onnx import helper, numpy_helper

    for node in [node for node in graph.node if node.op_type == "Erfc"]:
        erf, one = f"{node.output[0]}/erf", f"{node.output[0]}/one"
        graph.initializer.append(numpy_helper.from_array(np.float32(1), one))
        position = list(graph.node).index(node)
        graph.node.insert(position, helper.make_node("Erf", [node.input[0]], [erf]))
        graph.node.insert(position + 1, helper.make_node("Sub", [one, erf], [node.output[0]]))
        graph.node.remove(node)


def _name_parts(graph: Any) -> None:
    """Names the free dimension, and every node and tensor by kind and number.

    tf2onnx names by counters that run on through the process; so equal models give equal files.
    """
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    del graph.value_info[:]  # shapes in between, under the old names; every runtime infers them anew
    counts: Counter[str] = Counter()
    new = {value.name: value.name for value in (*graph.input, *graph.output)}
    for node in graph.node:
        counts[node.op_type] += 1
        node.name = f"{node.op_type.lower()}_{counts[node.op_type]}"
        for index, tensor in enumerate(node.input):
            new.setdefault(tensor, f"{node.name}.input_{index}" if tensor else "")  # "" is an input left out
        for index, tensor in enumerate(node.output):
            new.setdefault(tensor, f"{node.name}.{index}" if index else node.name)
        node.input[:] = [new[tensor] for tensor in node.input]
        node.output[:] = [new[tensor] for tensor in node.output]
    for tensor in graph.initializer:
        tensor.name = new[tensor.name]
    graph.name = "fer_deploy"


def _refuse_leftovers(graph: Any) -> None:
    """Refuses a graph that would run slower or otherwise than meant although it is valid."""
    kinds = {node.op_type for node in graph.node}
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type == "BatchNormalization" and made_by.get(node.input[0]) == "Conv":
            raise ModelError(f"Batch normalisation {node.name} was not folded into the convolution before it")
    random = sorted(kind for kind in kinds if kind.startswith("Random") or kind in ("Dropout", "Bernoulli"))
    if random:
        raise ModelError(f"The model still has random operations at inference: {', '.join(random)}")
    names = [value.name for value in (*graph.input, *graph.output)]
    if names != [INPUT, OUTPUT]:
        raise ModelError(f"The converted graph has inputs and outputs {names}, expected {[INPUT, OUTPUT]}")


@dataclass(frozen=True)
class Toolchain:
    """The imported packages, so that they are imported in one place."""

    keras: Any
    tensorflow: Any
    tf2onnx: Any
    onnx: Any
    onnxslim: Any

    def versions(self) -> dict[str, str]:
        """Package name -> version, for the manifest."""
        return {name: str(getattr(self, name).__version__) for name in self.__dataclass_fields__}


def import_toolchain() -> Toolchain:
    """Imports what an export needs.

    A ``.keras`` file does not depend on the backend that trained it, and the converter reads TensorFlow graphs: so
    Keras is loaded on TensorFlow here, whatever ``KERAS_BACKEND`` says.

    Raises:
        MissingDependencyError: A package is not installed.
        UsageError: Keras is already loaded on another backend in this process.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    wanted = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        import keras
        import onnx
        import onnxslim
        import tensorflow
        import tf2onnx
    except ImportError as error:
        raise MissingDependencyError(f"What an export needs ({error.name})", "fer-deploy[export]") from error
    finally:  # only Keras's import reads it: processes that we start later keep the user's choice
        if wanted is None:
            del os.environ["KERAS_BACKEND"]
        else:
            os.environ["KERAS_BACKEND"] = wanted
    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            f"Keras is already loaded on the {keras.backend.backend()} backend in this process, and an export needs "
            "TensorFlow. Export in a process of its own: fer-deploy export model.keras"
        )
    for name in ("tensorflow", "absl", "tf2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return Toolchain(keras, tensorflow, tf2onnx, onnx, onnxslim)
