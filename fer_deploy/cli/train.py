"""Placeholder."""

import typer

app = typer.Typer()


def train() -> None:
    """Not there yet."""
