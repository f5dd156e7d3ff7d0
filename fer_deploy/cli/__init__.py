"""The command line: registers the commands and turns errors into one line and an exit code.

Exit codes: 0 fine; 1 a gate failed, or some inputs failed under --strict; 2 the request can't be carried out.
"""

from __future__ import annotations

import os
import sys

import typer

from fer_deploy import __version__
from fer_deploy.cli import bench, data, doctor, export, infer, train, verify
from fer_deploy.cli.light import LightCommand, LightGroup
from fer_deploy.errors import FerDeployError

app = typer.Typer(
    name="fer-deploy",
    help="Facial emotions from pictures, fast: train on FER-2013, export, prove the accuracy, infer.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("infer", cls=LightCommand)(infer.infer)
app.command("export")(export.export)
app.command("verify")(verify.verify)
app.command("bench")(bench.bench)
app.command("train")(train.train)
app.command("doctor")(doctor.doctor)
app.add_typer(data.app, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fer-deploy {__version__}")
        raise typer.Exit


@app.callback(cls=LightGroup)
def _root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", envvar="FER_DEPLOY_DEBUG", help="Show tracebacks of errors."),
) -> None:
    if debug:
        os.environ["FER_DEPLOY_DEBUG"] = "1"


def main() -> None:
    """Runs the command line; errors of ours become one line on stderr and their exit code."""
    try:
        app()
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
