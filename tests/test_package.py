"""The package as a user gets it: light to import, complete, and consistent with its metadata."""

from __future__ import annotations

import runpy
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import fer_deploy
from fer_deploy.bundle.manifest import ASSETS, Bundle

ROOT = Path(__file__).parents[1]
LIGHT_IMPORTS = runpy.run_path(str(Path(__file__).with_name("light_imports.py")))


@pytest.fixture(autouse=True)
def _same_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started here import the package that is tested here."""
    monkeypatch.setenv("PYTHONPATH", str(Path(fer_deploy.__file__).parents[1]))


def test_import_is_light() -> None:
    assert LIGHT_IMPORTS["heavy_modules"](f"import fer_deploy; {LIGHT_IMPORTS['REPORT']}") == []


def test_the_check_itself_sees_heavy_modules() -> None:
    pytest.importorskip("openvino")
    assert "openvino" in LIGHT_IMPORTS["heavy_modules"](f"import openvino; {LIGHT_IMPORTS['REPORT']}")


@pytest.mark.parametrize("words", LIGHT_IMPORTS["commands"](), ids=lambda words: " ".join(words) or "root")
def test_help_is_light(words: list[str]) -> None:
    assert LIGHT_IMPORTS["heavy_modules"](LIGHT_IMPORTS["HELP"], *words, "--help") == []


def test_every_command_is_checked() -> None:
    found = {" ".join(words) for words in LIGHT_IMPORTS["commands"]()}
    assert found >= {"", "infer", "export", "train", "data"}


@pytest.mark.parametrize("name", fer_deploy.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(fer_deploy, name) is not None


def test_other_names_do_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        fer_deploy.nonsense  # noqa: B018


def test_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert fer_deploy.__version__ == project["version"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    with suppress(PackageNotFoundError):  # a checkout may be run without being installed
        assert version("fer-deploy") == project["version"]
    command = [sys.executable, "-c", "from fer_deploy.cli import main; main()", "--version"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed == f"fer-deploy {project['version']}\n"


def test_extras_never_bring_two_onnxruntimes() -> None:
    """The packages onnxruntime and onnxruntime-gpu fill the same module, so only the user chooses one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bringing = {
        name
        for name, requirements in project["optional-dependencies"].items()
        if any(requirement.startswith("onnxruntime") for requirement in requirements)
    }
    assert bringing == {"onnx", "gpu"}
    assert not any("onnxruntime" in requirement for requirement in project["dependencies"])


def test_package_is_typed() -> None:
    assert (Path(fer_deploy.__file__).parent / "py.typed").is_file()


def test_default_bundle_loads() -> None:
    if not (ASSETS / "default").is_dir():
        pytest.skip("the default bundle is not in this checkout: make it with export/reproduce.py")
    bundle = Bundle.load()
    for artefact in bundle.artefacts:
        assert len(bundle.read(artefact.format, artefact.precision)) == artefact.size
