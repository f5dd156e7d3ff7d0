"""Options that need no checking do not make Typer import pydantic; those that do are checked as ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[2] / "samples/admiral_48.png"
CODE = """
import sys
from fer_deploy.cli import main
try:
    main()
finally:
    print("pydantic" in sys.modules, file=sys.stderr)
"""


def infer(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CODE, "infer", str(SAMPLE), "--quiet", "--backend", "openvino", *options]
    return subprocess.run(command, capture_output=True, text=True)


def test_plain_options_are_light() -> None:
    done = infer("--output", "-")
    assert done.returncode == 0, done.stderr
    assert done.stderr.split()[-1] == "False"
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize(("option", "value"), [("--batch", "0"), ("--batch", "many"), ("--threads", "-1")])
def test_numbers_are_still_checked(option: str, value: str) -> None:
    done = infer(option, value)
    assert done.returncode == 2
    assert f"Invalid value for '{option}'" in done.stderr


def test_only_the_command_that_is_called_is_imported() -> None:
    code = CODE.replace('"pydantic" in sys.modules', '*(name for name in sys.modules if "fer_deploy.cli." in name)')
    done = subprocess.run([sys.executable, "-c", code, "doctor", "--help"], capture_output=True, text=True)
    assert "fer_deploy.cli.doctor" in done.stderr.split()
    assert not {"fer_deploy.cli.infer", "fer_deploy.cli.train", "fer_deploy.cli.data"} & {*done.stderr.split()}


def test_a_command_that_is_not_there_is_told_with_one_that_is() -> None:
    done = subprocess.run([sys.executable, "-m", "fer_deploy", "infre"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "infer" in done.stderr
