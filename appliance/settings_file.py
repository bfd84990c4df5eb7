"""Reads a TOML file into frozen dataclasses: every key known, every value of its type, nothing else."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from appliance.errors import ConfigError

Settings = TypeVar("Settings")


def load_settings(path: Path, kind: type[Settings]) -> Settings:
    """Read ``path`` as ``kind``, a dataclass whose fields are values or further dataclasses (tables).

    A value may be bool, int, float, str, Path, a Literal of strings or a tuple of strings. A relative Path
    counts from the file's own folder.

    Raises:
        ConfigError: No such file, not TOML, an unknown or missing key, or a value of the wrong type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"The settings file {path} can't be read ({error.strerror})", do="Give its path with --config"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML ({error})", do="Correct that line") from error
    return _table(table, kind, path, "")


def check_ranges(path: Path, ranges: Mapping[str, bool]) -> None:
    """Refuse settings that are of the right type and make no sense.

    Args:
        path: The file they are from.
        ranges: Key -> whether its value is one that can be used.

    Raises:
        ConfigError: Names the first key that isn't.
    """
    for key, good in ranges.items():
        if not good:
            raise ConfigError(f"{path}: {key} is out of its range", do="Correct it; the README lists the ranges")


def _table(table: Mapping[str, Any], kind: type[Settings], path: Path, prefix: str) -> Settings:
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # the caller gives a dataclass
    hints = get_type_hints(kind)
    for key in table:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0)
            raise ConfigError(
                f"{path} has an unknown key {prefix}{key}",
                means="Nothing was started, because a setting may be misspelt",
                do=f"Did you mean {prefix}{near[0]}?" if near else "Remove it",
            )
    values: dict[str, Any] = {}
    for name, field in fields.items():
        key = prefix + name
        if dataclasses.is_dataclass(hints[name]):
            inner = table.get(name, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{path}: {key} must be a table", do=f"Write it as [{key}]")
            values[name] = _table(inner, hints[name], path, f"{key}.")
        elif name in table:
            values[name] = _value(table[name], hints[name], path, key)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{path} lacks {key}", do=f"Add {key}")
    return kind(**values)


def _value(value: Any, hint: Any, path: Path, key: str) -> Any:
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        raise ConfigError(f"{path}: {key} is {value!r}", do=f"Use one of: {', '.join(map(str, get_args(hint)))}")
    if hint is Path and isinstance(value, str):
        return (path.parent / value).resolve()
    if hint == tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ConfigError(f"{path}: {key} is {value!r}", do='Write it as a list, like ["head", "hardhat"]')
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"{path}: {key} is {value!r}", do=f"It must be of type {hint.__name__}")
    return value
