"""The command line: registers the commands and turns errors into one line and an exit code.

Only the command that is called is imported: to register them all takes a tenth of the time of ``infer`` on a picture.

Exit codes: 0 fine; 1 a gate failed, or some inputs failed under --strict; 2 the request can't be carried out.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib import import_module
from typing import Any, Final

import typer

from fer_deploy import __version__
from fer_deploy.cli._compat_typer import LightCommand, LightGroup
from fer_deploy.errors import FerDeployError

_COMMANDS: Final = ("infer", "export", "verify", "bench", "train", "doctor", "fetch")
"""Each the name of a module here and of the function in it, in the order of the help."""
_GROUPS: Final = ("data",)
"""Each the name of a module here, with an ``app`` in it."""

is_program = False
"""Whether this process is ours as a whole, and may fork: ``main`` runs, and not a program that uses ``app``."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fer-deploy {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", envvar="FER_DEPLOY_DEBUG", help="Show tracebacks of errors."),
) -> None:
    if debug:
        os.environ["FER_DEPLOY_DEBUG"] = "1"


@cache
def _app(only: str | None = None) -> typer.Typer:
    """Makes the command line, with all commands unless ``only`` is the name of one."""
    made = typer.Typer(
        name="fer-deploy",
        help="Facial emotions from pictures, fast: train on FER-2013, export, prove the accuracy, infer.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    made.callback(cls=LightGroup)(_root)
    names = (only,) if only in _COMMANDS + _GROUPS else _COMMANDS + _GROUPS
    for name in names:
        module = import_module(f"{__name__}.{name}")
        if name in _GROUPS:
            made.add_typer(module.app, name=name)
        else:
            made.command(name, cls=LightCommand if name == "infer" else None)(getattr(module, name))
    return made


def __getattr__(name: str) -> Any:
    """Gives ``app``, the whole command line, to who asks for it (PEP 562)."""
    if name == "app":
        return _app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main() -> None:
    """Runs the command line; errors of ours become one line on stderr and their exit code."""
    global is_program
    is_program = True
    try:
        _app(sys.argv[1] if len(sys.argv) > 1 else None)()
    except FerDeployError as error:
        if os.environ.get("FER_DEPLOY_DEBUG"):
            raise
        print(f"fer-deploy: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our stdout has seen enough (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        print("fer-deploy: interrupted", file=sys.stderr)
        sys.exit(130)
