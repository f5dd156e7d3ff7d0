"""Placeholder."""

import typer

app = typer.Typer()


def infer() -> None:
    """Not there yet."""
