"""Options that more than one command takes, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fer_deploy.bundle.shipped import shipped_names

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of tables.")]
DataArgument = Annotated[
    Path,
    typer.Argument(
        help="FER-2013: Kaggle's zip, the same unpacked, fer2013.csv or icml_face_data.csv (also zipped or gzipped)."
    ),
]
DataOption = Annotated[Path, typer.Option("--data", help="FER-2013 in any form that 'fer-deploy data info' reads.")]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave bad rows out and count them instead of stopping.")
]
_BUNDLE = f"A bundle's folder, or the name of one that ships: {', '.join(shipped_names())}."
BundleOption = Annotated[str, typer.Option("--bundle", help=_BUNDLE)]
TtaOption = Annotated[
    str | None,
    typer.Option(
        "--tta", metavar="flip", help="Average each answer with that to the mirror image; takes twice as long."
    ),
]
BundleArgument = Annotated[str, typer.Argument(help=_BUNDLE)]
BackendOption = Annotated[str, typer.Option("--backend", help="auto, openvino, onnx, keras or trt.")]
PrecisionOption = Annotated[str, typer.Option("--precision", help="auto, fp32, fp16, int8; bf16 on openvino.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu; cuda on onnx and trt; tensorrt on onnx.")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of the runtime; physical cores if not given.")
]
