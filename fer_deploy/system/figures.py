"""Matplotlib, on use only: it draws into files, never on a screen."""

from __future__ import annotations

from typing import Any

from fer_deploy.errors import MissingDependencyError


def new_figure(width: float, height: float, what: str) -> Any:
    """Makes an empty figure.

    Args:
        width: Inches.
        height: Inches.
        what: What is drawn, for the error.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(f"Matplotlib, for {what},", "fer-deploy[train]") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
