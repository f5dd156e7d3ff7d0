"""Placeholder."""

import typer

app = typer.Typer()


def export() -> None:
    """Not there yet."""
