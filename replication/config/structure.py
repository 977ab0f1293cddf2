"""Nested dictionaries into attrs classes, every key and type checked, with errors that name the key by its dotted path.

Nothing is silently ignored or converted: an integer may stand for a float, nothing else.
"""

from __future__ import annotations

import difflib
import re
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import attrs

from replication.errors import ConfigError

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 2, 60, 60, 60

T = TypeVar("T")


def shown(value: Any) -> str:
    """A value as an error shows it: in one line, and cheaply, since with aliases a few lines of YAML grow for ever."""
    return _SHORT.repr(value)


def offered(given: object, names: Iterable[str], known: str = "known are") -> str:
    """What an error says behind an unknown name: the one that it resembles, if any, and all that there are."""
    names = list(names)
    close = difflib.get_close_matches(str(given), names, n=1, cutoff=0.75)
    return f"{f'did you mean {close[0]!r}? ' if close else ''}{known} {', '.join(names)}"


def mapping(value: Any, where: str) -> dict[str, Any]:
    """`value`, if it is a section as YAML has them; ConfigError otherwise."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{where}: must be a section of named values, got {shown(value)}")
    return value


def merge(base: Mapping[str, Any], override: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`base` with the values of `override` in place; sections are merged, everything else replaced."""
    merged = dict(base)
    for key, value in override.items():
        if isinstance(base.get(key), dict):
            merged[key] = merge(base[key], mapping(value, f"{where}.{key}"), f"{where}.{key}")
        else:
            merged[key] = value
    return merged


def structure(cls: type[T], values: Any, where: str) -> T:
    """An attrs class from a mapping; ConfigError on a missing or unknown key, a wrong type, a value out of range."""
    values = mapping(values, where or "parameters")
    prefix = f"{where}." if where else ""
    fields = {field.name: field for field in attrs.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise ConfigError(f"unknown parameter {shown(prefix + key)}; {offered(key, fields, 'known here are')}")
    hints = typing.get_type_hints(cls)
    arguments = {}
    for name, field in fields.items():
        if name not in values:
            raise ConfigError(f"missing parameter '{prefix}{name}'")
        arguments[name] = _value(hints[name], values[name], f"{prefix}{name}")
        try:
            if field.validator is not None:
                field.validator(None, field, arguments[name])
        except ValueError as error:
            raise ConfigError(f"{prefix}{name} {error}, got {shown(values[name])}") from None
    return cls(**arguments)


def _value(hint: Any, value: Any, where: str) -> Any:
    if attrs.has(hint):
        return structure(hint, value, where)
    if hint == tuple[int, ...]:
        if not isinstance(value, list | tuple) or not value or any(type(item) is not int or item < 1 for item in value):
            raise ConfigError(f"{where} must be a list of whole numbers from 1 on, got {shown(value)}")
        return tuple(value)
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in allowed:
        return None
    if float in allowed and type(value) is int and abs(value) <= 2**53:
        return float(value)
    if type(value) not in allowed:  # type(), not isinstance: True is an int to Python, not to a reader of params.yaml
        names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in allowed)
        meant = isinstance(value, str) and float in allowed and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", value)
        advice = " (YAML takes that for text: it wants a point, as in 1.0e-3)" if meant else ""
        raise ConfigError(f"{where} must be {names}, got {shown(value)}{advice}")
    return value
