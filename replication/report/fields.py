"""Typed access to values read from a file, so that every complaint names file, row and field."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs

from replication.errors import ReplicationError, ResultsError
from replication.files import read_csv, read_json

T = TypeVar("T")


@attrs.frozen
class Fields:
    """A JSON object or a CSV row; `where` says which, for error messages."""

    where: str
    values: dict[str, Any]

    def _get(self, name: str) -> Any:
        if name not in self.values:
            raise ResultsError(f"{self.where}: field '{name}' is missing")
        return self.values[name]

    def _wrong(self, name: str, wanted: str) -> ResultsError:
        return ResultsError(f"{self.where}: {name} must be {wanted}, got {self.values[name]!r:.60}")

    def number(self, name: str) -> float:
        """A number; infinity is one (alpha of a perfect edge), NaN is not."""
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise self._wrong(name, "a number")
        return float(value)

    def fraction(self, name: str) -> float:
        """A number from 0 to 1."""
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self._wrong(name, "a number from 0 to 1")
        return float(value)

    def integer(self, name: str) -> int:
        """A whole number, 0 or more."""
        value = self._get(name)
        if type(value) is not int or value < 0:
            raise self._wrong(name, "a whole number, 0 or more")
        return value

    def boolean(self, name: str) -> bool:
        """True or false."""
        value = self._get(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def flag(self, name: str) -> bool:
        """True or False, as Python writes them into a table's cell."""
        value = self._get(name)
        if value not in ("True", "False"):
            raise self._wrong(name, "True or False")
        return bool(value == "True")

    def text(self, name: str) -> str:
        """A string with something in it."""
        value = self._get(name)
        if not isinstance(value, str) or not value:
            raise self._wrong(name, "a text")
        return value

    def label(self, name: str) -> str:
        """A text or a whole number, as text."""
        value = self._get(name)
        return str(value) if type(value) is int else self.text(name)

    def size(self, name: str) -> int:
        """A whole number, or how many entries a list has."""
        value = self._get(name)
        return len(value) if isinstance(value, list) else self.integer(name)

    def section(self, name: str) -> Fields:
        """A nested object."""
        value = self._get(name)
        if not isinstance(value, dict):
            raise self._wrong(name, "a section of named values")
        return Fields(f"{self.where}: {name}", value)

    def optional(self, read: Callable[[str], T], name: str) -> T | None:
        """`read(name)`, or None where the field is absent or null."""
        return None if self.values.get(name) is None else read(name)

    def cell(self, read: Callable[[str], T], name: str) -> T | None:
        """`read(name)` of a table's cell, or None where the cell is empty; the column itself must be there."""
        return None if self._get(name) is None else read(name)

    def expect(self, name: str, expected: object) -> None:
        """Complain unless the field has this value."""
        value = self._get(name)
        if type(value) is not type(expected) or value != expected:
            raise self._wrong(name, repr(expected))

    def as_text(self) -> dict[str, str]:
        """Every value as text; null values are left out."""
        return {name: str(value) for name, value in self.values.items() if value is not None}


def read_object(path: Path) -> Fields:
    """A JSON file that holds one object.

    Raises:
        ResultsError: it is unreadable, no JSON, or something else than an object.
    """
    try:
        value = read_json(path)
    except ReplicationError as error:
        raise ResultsError(str(error).partition("; run the stage")[0]) from error
    except RecursionError:
        raise ResultsError(f"cannot read {path}: nested too deeply") from None
    if not isinstance(value, dict):
        raise ResultsError(f"{path}: must hold one JSON object")
    return Fields(str(path), value)


def read_rows(path: Path) -> list[Fields]:
    """The rows of a CSV file, with numbers as numbers and empty cells as None.

    Raises:
        ResultsError: it is unreadable, or a row has more or fewer cells than the header.
    """
    try:
        rows = read_csv(path)
    except ReplicationError as error:
        raise ResultsError(str(error).partition("; run the stage")[0]) from error
    fields = []
    for number, row in enumerate(rows, start=1):
        # csv files surplus cells under the key None and fills missing ones with the value None.
        if None in row or None in row.values():
            raise ResultsError(f"{path}: row {number} has not as many cells as the header")
        fields.append(Fields(f"{path}: row {number}", {name: _parse(cell) for name, cell in row.items()}))
    return fields


def _parse(cell: str) -> int | float | str | None:
    if cell == "":
        return None
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
