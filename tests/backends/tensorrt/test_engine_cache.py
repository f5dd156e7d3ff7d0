"""Which engine is taken: the bundle's, the cache's or a new one; none on trust."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fer_deploy.backends.tensorrt import engine_cache
from fer_deploy.backends.tensorrt.builder import BuildOptions, BuiltEngine, build_engine
from fer_deploy.backends.tensorrt.cuda import CudaDevice
from fer_deploy.backends.tensorrt.engine_cache import cache_key, engine_facts, offered_engines
from fer_deploy.backends.tensorrt.flavour import Flavour
from fer_deploy.bundle.manifest import Artefact, Bundle
from fer_deploy.errors import BundleError, UnavailableError, UsageError
from fer_deploy.exporting.engines import build_engines, engine_step, parse_targets, trtexec_lines
from fer_deploy.system.files import cache_folder

GPU = CudaDevice("NVIDIA RTX A2000", "sm86", "13.0")
OPTIONS = BuildOptions()


def obtain_engine(*arguments: Any) -> bytes:
    return next(offered_engines(*arguments))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder("tensorrt")


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Builds for sm86 by name instead of for the GPU that is not here, and lists what was built."""
    done: list[str] = []

    def build(flavour: Flavour, model: bytes, precision: str, **options: object) -> BuiltEngine:
        done.append(precision)
        return build_engine(flavour, model, precision, target="sm86", options=OPTIONS)

    monkeypatch.setattr(engine_cache, "build_engine", build)
    return done


@pytest.fixture
def with_engines(rtx: Flavour, trt_bundle: Bundle) -> Bundle:
    made = build_engines(trt_bundle, ("fp32", "fp16", "int8", "int8-trt"), ("sm86",))
    bundle = replace(trt_bundle, artefacts=(*trt_bundle.artefacts, *made))
    bundle.save()
    return Bundle.load(bundle.path)


def test_export_builds_for_named_gpus(rtx: Flavour, with_engines: Bundle) -> None:
    found = [artefact for artefact in with_engines.artefacts if artefact.format == "engine"]
    assert [(a.file, a.precision, a.target) for a in found] == [
        (f"engines/model.{precision}.sm86.engine", precision, "sm86") for precision in ("fp32", "fp16", "int8-trt")
    ]
    for artefact in found:
        facts = engine_facts(rtx, with_engines.read("onnx", artefact.precision), OPTIONS)
        assert facts.items() <= artefact.made_with.items()
        assert sum(artefact.made_with["built"]["convolutions"].values()) == 8
        assert with_engines.read("engine", artefact.precision, "sm86")


def test_the_bundles_engine_is_taken(rtx: Flavour, with_engines: Bundle, builds: list[str], cache: Path) -> None:
    said: list[str] = []
    engine = obtain_engine(with_engines, "fp16", rtx, GPU, OPTIONS, said.append)
    assert engine == with_engines.read("engine", "fp16", "sm86")
    assert (said, builds, cache.exists()) == ([], [], False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "1.4.0.76"}, r"built by TensorRT for RTX 1\.4\.0\.76, and this is TensorRT for RTX 1"),
        ({"runtime": "TensorRT"}, "built by TensorRT 1.*, and this is TensorRT for RTX"),
        ({"onnx_sha256": "0" * 64}, "built from another ONNX file"),
        ({"version": None, "runtime": {"x": "y" * 500}}, "built by .*, and this is"),
    ],
)
def test_a_stale_engine_is_made_anew(
    rtx: Flavour, with_engines: Bundle, builds: list[str], change: dict[str, str], reason: str
) -> None:
    def edit(artefact: Artefact) -> Artefact:
        made_with = {**artefact.made_with, **change}
        return replace(artefact, made_with=made_with) if artefact.format == "engine" else artefact

    stale = replace(with_engines, artefacts=tuple(map(edit, with_engines.artefacts)))
    said: list[str] = []
    assert obtain_engine(stale, "fp16", rtx, GPU, OPTIONS, said.append)
    assert builds == ["fp16"]
    assert "engines/model.fp16.sm86.engine is not used, and made anew from the ONNX file" in said[0]
    assert re.search(reason, said[0])
    assert "\n" not in said[0]
    assert len(said[0]) < 400


def test_an_engine_for_another_gpu_is_not_taken(rtx: Flavour, with_engines: Bundle, builds: list[str]) -> None:
    other = GPU._replace(target="sm89")
    assert obtain_engine(with_engines, "fp16", rtx, other, OPTIONS, lambda line: None)
    assert builds == ["fp16"]


def test_a_damaged_engine_is_refused(rtx: Flavour, with_engines: Bundle, builds: list[str]) -> None:
    path = with_engines.path / "engines/model.fp16.sm86.engine"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="not the file that the bundle's manifest names"):
        obtain_engine(with_engines, "fp16", rtx, GPU, OPTIONS, lambda line: None)
    assert builds == []


def test_a_built_engine_is_kept_and_checked(rtx: Flavour, trt_bundle: Bundle, builds: list[str], cache: Path) -> None:
    def obtain() -> bytes:
        return obtain_engine(trt_bundle, "int8-trt", rtx, GPU, OPTIONS, lambda line: None)

    first = obtain()
    assert obtain() == first
    assert len(builds) == 1
    (kept,) = cache.glob("*.engine")
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    assert obtain() != bytes(content[32:])
    assert len(builds) == 2


def test_what_an_engine_depends_on_is_in_its_key(rtx: Flavour) -> None:
    def key(**change: Any) -> str:
        facts = {"model": b"x", "precision": "fp16", "flavour": rtx, "gpu": GPU, "options": OPTIONS, **change}
        return cache_key(**facts)

    others = [
        key(model=b"y"),
        key(precision="fp32"),
        key(gpu=GPU._replace(name="NVIDIA L4")),
        key(gpu=GPU._replace(target="sm89")),
        key(gpu=GPU._replace(driver="12.8")),
        key(options=BuildOptions(max_batch=128)),
    ]
    assert key() == key()
    assert len({key(), *others}) == 1 + len(others)


def test_commands_that_build_the_same_elsewhere(trt_bundle: Bundle) -> None:
    lines = trtexec_lines(next(a for a in trt_bundle.artefacts if a.precision == "fp16"))
    profile = "--minShapes=image:1x48x48x1 --optShapes=image:64x48x48x1 --maxShapes=image:256x48x48x1"
    assert lines == {
        "TensorRT": f"trtexec --stronglyTyped --onnx=model.fp16.onnx {profile} "
        "--skipInference --saveEngine=model.fp16.engine",
        "TensorRT for RTX": f"tensorrt_rtx --onnx=model.fp16.onnx {profile} "
        "--skipInference --saveEngine=model.fp16.engine",
    }
    with pytest.raises(UsageError, match="is no file for TensorRT to build from"):
        trtexec_lines(replace(trt_bundle.artefacts[0], precision="int8"))


def test_targets() -> None:
    assert parse_targets("sm86, SM89,sm86") == ("sm86", "sm89")
    for wrong in ("86", "sm8", "ampere", "sm86;sm89"):
        with pytest.raises(UsageError, match="is no GPU to build for"):
            parse_targets(wrong)


def test_what_an_export_cannot_do_is_told_before_it_begins(rtx: Flavour) -> None:
    with pytest.raises(UnavailableError, match="cannot build for sm90; it can for"):
        engine_step(["sm86", "sm90"])
    assert engine_step(["sm86"])


def test_tensorrt_itself_builds_for_no_named_gpu() -> None:
    plain = Flavour(SimpleNamespace(__version__="11.4"), is_rtx=False)
    with pytest.raises(UnavailableError, match=r"TensorRT 11\.4 builds for the GPU that it runs on.*fer-deploy\[rtx\]"):
        plain.check_target("sm86")
    assert plain.targets == ()


def test_an_engine_that_is_refused_is_followed_by_another(
    rtx: Flavour, with_engines: Bundle, builds: list[str]
) -> None:
    offered = list(offered_engines(with_engines, "fp16", rtx, GPU, OPTIONS, lambda line: None))
    assert [len(offered), builds] == [2, ["fp16"]]
    again = list(offered_engines(with_engines, "fp16", rtx, GPU, OPTIONS, lambda line: None))
    assert again[:2] == offered  # the bundle's, the cache's, and a new one


def test_a_gpu_that_rtx_is_not_for(rtx: Flavour, trt_bundle: Bundle) -> None:
    """Without a GPU the build for the current one fails too: the answer is that of an H100."""
    h100 = CudaDevice("NVIDIA H100", "sm90", "13.0")
    with pytest.raises(UnavailableError, match=r"is for sm75, .*the NVIDIA H100 is sm90: pip install 'fer-deploy\[ten"):
        obtain_engine(trt_bundle, "fp16", rtx, h100, OPTIONS, lambda line: None)
