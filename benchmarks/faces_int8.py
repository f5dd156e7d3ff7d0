"""A detector's ONNX file in 8 bits, to see what that would gain and lose: ``faces_speed.py --int8`` and no more."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from fer_deploy.faces.detector import as_input


def quantised(content: bytes, photos: list[Any], blue_first: bool = False) -> bytes:
    """Quantises a file with ONNX Runtime.

    Args:
        content: The ONNX file.
        photos: uint8 (H, W, 3), RGB, of one size with sides that are multiples of 32: what it is calibrated on.
        blue_first: Whether the network takes blue first.

    Returns:
        The file with QDQ nodes: activations uint8, weights int8 per channel.
    """
    import onnx
    import onnx.version_converter
    from onnxruntime import quantization

    model = onnx.load_from_string(content)
    for dimension, size in zip(model.graph.input[0].type.tensor_type.shape.dim, ("n", 3, "h", "w"), strict=True):
        if isinstance(size, str):
            dimension.dim_param = size
    for output in model.graph.output:
        for dimension in (*output.type.tensor_type.shape.dim[:1], *output.type.tensor_type.shape.dim[2:]):
            dimension.Clear()
    del model.graph.value_info[:]  # shapes of the file's own size
    name = model.graph.input[0].name
    constant = {tensor.name for tensor in model.graph.initializer}
    for each in [each for each in model.graph.input if each.name in constant]:
        model.graph.input.remove(each)

    class Photos(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        left = iter(photos)

        def get_next(self) -> dict[str, Any] | None:
            photo = next(self.left, None)
            return None if photo is None else {name: as_input(photo[None], blue_first)}

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(onnx.version_converter.convert_version(model, max(13, model.opset_import[0].version)), before)
        quantization.quantize_static(before, after, Photos(), per_channel=True)
        return after.read_bytes()
