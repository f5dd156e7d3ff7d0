"""What the scripts for GPUs share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from gpu_rows import arguments, handed_on

from fer_deploy.system.gpus import ask_driver

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("script", ["gpu_check", "gpu_matrix"])
def test_without_a_gpu_they_say_so_in_one_line(script: str) -> None:
    if ask_driver()["gpus"]:
        pytest.skip("there is a GPU")
    done = subprocess.run([sys.executable, str(SCRIPTS / f"{script}.py")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{script}: there is no GPU to measure: ")
    assert done.stderr.count("\n") == 1


def test_a_form_s_process_measures_with_the_same_options() -> None:
    given = ["--bundle", "fast", "--seconds", "0.5", "--data", "fer2013.zip"]
    parser = arguments("", minutes=1, seconds=1)
    args = parser.parse_args(given)
    assert parser.parse_args(handed_on(args)) == args
    assert "--data" not in handed_on(parser.parse_args([]))
