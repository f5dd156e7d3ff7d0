"""Commands whose plain options do not make Typer import pydantic, which takes a fifth of a short command's time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup


class LightCommand(TyperCommand):
    """Takes strings and defaults as they are; whatever there is to check or convert goes Typer's own way.

    Typers that know no pydantic (before 0.29), or keep its use elsewhere, are left as they are.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the command line; by now Typer has added the parameters of its own."""
        _lighten(self.get_params(ctx))
        return super().parse_args(ctx, args)


class LightGroup(TyperGroup):
    """The same for a group of commands and the options that stand before a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the command line; by now Typer has added the parameters of its own."""
        _lighten(self.get_params(ctx))
        return super().parse_args(ctx, args)


def _lighten(parameters: Iterable[Any]) -> None:
    for parameter in parameters:
        if getattr(parameter, "_runtime_param", 0) is None and hasattr(parameter, "get_runtime_param"):
            parameter._runtime_param = _AsItIs(parameter)


class _AsItIs:
    """Stands in for a parameter's converter, and makes the real one when a value needs it."""

    def __init__(self, parameter: Any) -> None:
        self._parameter = parameter

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Returns the value that a command gets."""
        kind = self._parameter.type_descriptor.annotation
        if value is None and not param.multiple and param.nargs == 1:
            return None
        if isinstance(kind, type) and type(value) is kind:
            return value
        if kind == list[str] and isinstance(value, (list, tuple)) and all(type(each) is str for each in value):
            return list(value)
        self._parameter._runtime_param = None
        return self._parameter.get_runtime_param().coerce(value, param=param, ctx=ctx)
