"""What the README shows works: its first two shell blocks stand as promised, its Python examples run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fer_deploy.errors import MissingDependencyError

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_first_two_shell_blocks_are_the_two_commands() -> None:
    main_job, tests = _blocks("bash")[:2]
    assert len(main_job.splitlines()) == len(tests.splitlines()) == 1
    assert main_job.strip().endswith("fer-deploy infer samples/")
    assert "pytest" in tests


@pytest.mark.parametrize("example", _blocks("python"))
def test_python_examples_run(example: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    try:
        exec(compile(example, "README.md", "exec"), {})
    except MissingDependencyError as error:
        pytest.skip(str(error))
    assert capsys.readouterr().out.strip()


def test_commands_and_options_that_are_shown_exist() -> None:
    from typer.main import get_command
    from typer.testing import CliRunner

    from fer_deploy.cli import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    blocks = [block.replace("\\\n", " ") for block in _blocks("text") + _blocks("bash")]
    lines = [line for block in blocks for line in block.splitlines() if "fer-deploy " in line]
    assert lines
    for line in lines:
        words = shlex.split(line[line.index("fer-deploy ") :].partition("#")[0])
        if "'" in line.partition("fer-deploy ")[0] or words[1] not in commands:
            assert line.lstrip().startswith("pip"), line
            continue
        group = words[1:3] if words[1] == "data" else words[1:2]
        usage = CliRunner().invoke(app, [*group, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
        for option in (word for word in words if word.startswith("--")):
            assert option in usage, f"{line}: {option}"


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert "://" in target or (ROOT / target).exists(), target
