"""TOML tables become dataclasses, or one line that names what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fer_deploy.errors import UsageError
from fer_deploy.system.toml import build, read_toml, take_table


@dataclass(frozen=True)
class Settings:
    rate: float = 0.5
    widths: tuple[int, ...] = (1, 2)
    name: str = "plain"


def test_values_take_the_types_of_the_fields() -> None:
    made = build(Settings, {"rate": 2, "widths": [3, 4]}, name="mine")
    assert made == Settings(2.0, (3, 4), "mine")
    assert type(made.rate) is float


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"speed": 1}, "there is no key 'speed' in Settings"),
        ({"name": "given already"}, "there is no key 'name'"),
        ({"rate": "fast"}, "rate is 'fast', expected a float"),
        ({"rate": True}, "rate is True, expected a float"),
        ({"widths": 3}, "widths is 3, expected a tuple"),
    ],
)
def test_a_wrong_key_or_type_is_named(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build(Settings, table, name="mine")


def test_what_is_no_table_is_refused() -> None:
    raw = {"model": 3, "other": 1}
    with pytest.raises(ValueError, match="model is 3, expected a table"):
        take_table(raw, "model")
    assert take_table(raw, "missing") == {}


@pytest.mark.parametrize("content", ["seed =", "\xff", "a = " + "[" * 10_000])
def test_a_file_that_is_not_toml_is_one_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "r.toml").write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=r"^The recipe .*r\.toml is not valid TOML"):
        read_toml(tmp_path / "r.toml", "The recipe", UsageError)


def test_a_file_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml cannot be read: No such file"):
        read_toml(tmp_path / "none.toml", "The recipe", UsageError)
