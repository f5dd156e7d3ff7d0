"""Engines as part of an export; how they are built is tested in tests/backends/tensorrt."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fer_deploy.backends.tensorrt.flavour import import_flavour
from fer_deploy.bundle.manifest import Bundle
from fer_deploy.errors import MissingDependencyError, UnavailableError

for package in ("tensorflow", "tf2onnx", "onnx", "onnxslim"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'fer-deploy[export]'")


def test_engines_are_exported(tiny_model_path: Path, tmp_path: Path) -> None:
    from fer_deploy.exporting.engines import engine_step
    from fer_deploy.exporting.exporter import export_bundle

    try:
        step = engine_step(("sm86", "sm89"))
    except (MissingDependencyError, UnavailableError) as reason:
        pytest.skip(str(reason))
    said: list[str] = []
    bundle = export_bundle(tiny_model_path, tmp_path / "out", name="tiny", extras=[step], report=said.append)
    engines = [(a.precision, a.target) for a in bundle.artefacts if a.format == "engine"]
    assert engines == [(precision, target) for precision in ("fp32", "fp16") for target in ("sm86", "sm89")]
    for precision, target in engines:
        assert bundle.read("engine", precision, target)
    fp16 = bundle.find("engine", "fp16", "sm89")
    assert fp16 is not None
    assert fp16.made_with["built"]["convolutions"] == {"Half -> Half": 8}
    assert any("Building the fp16 engine for sm89" in line for line in said)
    again = export_bundle(tiny_model_path, tmp_path / "out", name="tiny", precisions=["fp32"], overwrite=True)
    assert not (again.path / "engines").exists()


def test_the_commands_for_elsewhere_are_kept(tiny_bundle: Bundle) -> None:
    for artefact in tiny_bundle.artefacts:
        if artefact.format == "onnx":
            reported = artefact.made_with["build_elsewhere"]
            assert reported["TensorRT"].startswith("trtexec --stronglyTyped ")
            assert f"--onnx={artefact.file} " in reported["TensorRT for RTX"]


def test_what_cannot_be_built_is_told_at_once(tiny_model_path: Path, tmp_path: Path) -> None:
    from fer_deploy.cli import app
    from fer_deploy.errors import UsageError

    def export(*arguments: str) -> BaseException | None:
        whole = ["export", str(tiny_model_path), "--output", str(tmp_path / "out"), *arguments]
        return CliRunner().invoke(app, whole).exception

    assert isinstance(export("--target", "sm86"), UsageError)
    assert isinstance(export("--engine", "--target", "ampere"), UsageError)
    try:
        import_flavour(for_target="sm90")
    except (MissingDependencyError, UnavailableError) as reason:
        assert str(export("--engine", "--target", "sm90")) == str(reason)  # noqa: PT017
    else:
        assert "cannot build for sm90" in str(export("--engine", "--target", "sm90"))
    assert not (tmp_path / "out").exists()
