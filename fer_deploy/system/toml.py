"""TOML files whose tables fill dataclasses: every key and type is checked, and the error names what is wrong."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fer_deploy.errors import FerDeployError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)


def read_toml(path: Path, what: str, error_class: type[FerDeployError]) -> dict[str, Any]:
    """Reads a whole file.

    Args:
        path: The file.
        what: What errors call it, in front of its path.
        error_class: Of the errors.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise error_class(f"{what} {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise error_class(f"{what} {path} is not valid TOML: {error}") from error


def take_table(raw: dict[str, Any], key: str) -> dict[str, Any]:
    """Takes a table out of another one; empty where there is none.

    Raises:
        ValueError: What is there is no table.
    """
    table = raw.pop(key, {})
    if not isinstance(table, dict):
        raise ValueError(f"{key} is {table!r:.40}, expected a table")
    return table


def build(kind: type[T], table: Mapping[str, Any], **given: Any) -> T:
    """Makes a dataclass that has defaults for all its fields.

    Args:
        kind: The dataclass.
        table: Values from TOML for some of the fields; each must have the type of the field's default, but that a whole
            number may stand for a float, and a list becomes a tuple.
        **given: Values for other fields, which the table must not name.

    Raises:
        ValueError: The dataclass has no such field, or a value is of another type or refused.
    """
    defaults = kind()
    names = {field.name for field in dataclasses.fields(kind)} - set(given)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in names:
            raise ValueError(f"there is no key {key!r:.40} in {kind.__name__}")
        expected = type(getattr(defaults, key))
        if expected is tuple and isinstance(value, list):
            value = tuple(value)
        if expected is float and type(value) is int:
            value = float(value)
        if type(value) is not expected:
            raise ValueError(f"{key} is {value!r:.40}, expected a {expected.__name__}")
        values[key] = value
    return kind(**values, **given)
