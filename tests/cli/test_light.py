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
