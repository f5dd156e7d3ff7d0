"""Placeholder."""

import typer

app = typer.Typer()


def data() -> None:
    """Not there yet."""
