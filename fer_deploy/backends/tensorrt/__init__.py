"""TensorRT 10 and 11, and TensorRT for RTX: engines built from the bundle's ONNX files, and run on NVIDIA GPUs."""
