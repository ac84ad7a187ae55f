"""Types of the user's columns, and conversion of values to them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Iterable

from indexes.errors import UsageError
from indexes.store.attributes import TYPES, column_name

#: A value in a user's column.
Value = str | int | float | bool | date | datetime | None

# A text such as 00123, with a leading zero, is an identifier and keeps its zeros. One of more
# digits than 64 bits hold is an identifier too, and keeps all of them.
_INT = re.compile(r"-?(0|[1-9]\d*)", re.ASCII)
_FLOAT = re.compile(r"-?(0|[1-9]\d*)?(\.\d+|\.)?([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}.*")
_BOOLS = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}

_LARGEST = 2**63


@dataclass(frozen=True)
class UnusableCell:
    """A cell of a table that cannot be read; its row is reported with the reason."""

    reason: str


def type_of(value: Any) -> str:
    """The narrowest type that holds a value; empty for no value and for an unusable one."""
    if isinstance(value, UnusableCell):
        return ""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if _fits(value) else "float"
    if isinstance(value, (float, Decimal)):
        return "float"
    if isinstance(value, datetime):
        return "time"
    if isinstance(value, date):
        return "date"
    return "string"


def _fits(number: int) -> bool:
    """Whether 64 bits hold a whole number."""
    return -_LARGEST <= number < _LARGEST


def text_type(text: str) -> str:
    """The narrowest type that holds a value written as text; empty for no value."""
    if not text:
        return ""
    if _INT.fullmatch(text):
        return "int" if len(text) <= 20 and _fits(int(text)) else "string"
    if text in _BOOLS:
        return "bool"
    if _FLOAT.fullmatch(text) and any(map(str.isdigit, text)):
        return "float"
    for pattern, parse, name in (
        (_DATE, date.fromisoformat, "date"),
        (_TIME, datetime.fromisoformat, "time"),
    ):
        if pattern.fullmatch(text):
            try:
                parse(text)
            except ValueError:
                return "string"
            return name
    return "string"


def json_type(value: Any) -> str:
    """As :func:`type_of` for a JSON value, in which dates and times are strings."""
    if isinstance(value, str):
        return kind if (kind := text_type(value)) in ("date", "time", "") else "string"
    return type_of(value)


def common_type(first: str, second: str) -> str:
    """The narrowest type that holds the values of both types."""
    if not first or not second or first == second:
        return first or second
    pair = {first, second}
    if pair == {"int", "float"}:
        return "float"
    if pair == {"date", "time"}:
        return "time"
    return "string"


def convert(value: Any, kind: str) -> Value:
    """A value in a column's type; ``None`` for no value.

    Args:
        value: as the source contains it.
        kind: one of :data:`indexes.store.attributes.TYPES`.

    Raises:
        ValueError: if the value cannot be expressed in that type.
    """
    if isinstance(value, UnusableCell):
        raise ValueError(value.reason)
    if type_of(value) == "":
        return None
    if kind == "string":
        return _valid_text(value)
    if kind == "bool":
        value = _BOOLS.get(value, value) if isinstance(value, str) else value
        if isinstance(value, bool):
            return value
    elif kind in ("int", "float"):
        if not isinstance(value, bool):
            if kind == "int" and isinstance(value, (float, Decimal)) and value != int(value):
                raise ValueError(f"{value} is not an integer")
            number = float(value) if kind == "float" else int(value)
            if isinstance(number, int) and not _fits(number):
                raise ValueError(f"{number} has more than 64 bits; --columns NAME:string keeps it")
            return number
    else:
        if isinstance(value, str):
            parse = date if _DATE.fullmatch(value) else datetime
            value = parse.fromisoformat(value)
        if isinstance(value, datetime):
            if kind == "time":
                return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        elif isinstance(value, date):
            return value if kind == "date" else datetime(value.year, value.month, value.day)
    raise ValueError(f"{value!r} is no {kind}")


def without_type(text: str) -> str:
    """The column in a value of ``--columns``, which is ``NAME`` or ``NAME:TYPE``."""
    column, _, kind = text.rpartition(":")
    return column if column and kind in TYPES else text


def _valid_text(value: Any) -> str:
    """A value as text.

    Raises:
        ValueError: if it contains half of a character (a lone surrogate), which no file can store.
    """
    if isinstance(value, str):
        text = value
    elif isinstance(value, (dict, list)):
        text = json.dumps(value, ensure_ascii=False, default=str)
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, bytes):
        text = value.hex()
    else:
        text = str(value)
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("the text contains half of a character (a lone surrogate)")
    return text


class ColumnTypes:
    """The user's columns of one source: which are stored, with which types and names."""

    def __init__(self, name: str, given: tuple[str, ...] | None):
        """Parse the value of ``--columns``.

        Args:
            name: the name of the source, for messages.
            given: each ``NAME`` or ``NAME:TYPE``; ``None`` for all columns.

        Raises:
            UsageError: if a type does not exist.
        """
        self._name = name
        self._wanted: dict[str, str] | None = None
        if given is not None:
            self._wanted = {}
            for entry in given:
                column, colon, kind = entry.rpartition(":")
                if not colon or not column:
                    column, kind = entry, ""
                elif kind not in TYPES:
                    raise UsageError(
                        f"There is no type '{kind}' for column '{column}'; choose one of "
                        f"{', '.join(TYPES)}."
                    )
                self._wanted[column] = kind
        self._types: dict[str, str] = {}

    @property
    def observed(self) -> list[str]:
        """The stored columns for which :meth:`observe` was called."""
        return list(self._types)

    def observe(self, column: str, kind: str) -> None:
        """Widen a column's type to hold one more value's type; empty for no value."""
        if self._wanted is None or column in self._wanted:
            self._types[column] = common_type(self._types.get(column, ""), kind)

    def resolve(self, available: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
        """Choose the stored columns, after all values were observed.

        Args:
            available: all columns of the source.

        Returns:
            The gallery's column name to type (empty if the column has no value at all), and the
            user's column name to the gallery's.

        Raises:
            UsageError: if a wanted column does not exist, or two would get the same name.
        """
        for column in self._wanted or ():
            if column not in available:
                raise UsageError(
                    f"{self._name} has no column '{column}' (it has: "
                    f"{', '.join(available) or 'none'}); check --columns."
                )
        kinds: dict[str, str] = {}
        names: dict[str, str] = {}
        for column, kind in self._types.items():
            given = (self._wanted or {}).get(column, "")
            stored = column_name(column)
            if stored in kinds:
                twin = next(old for old, new in names.items() if new == stored)
                raise UsageError(
                    f"The columns '{twin}' and '{column}' of {self._name} would both be called "
                    f"{stored} in the gallery; leave one out with --columns."
                )
            kinds[stored], names[column] = given or kind, stored
        return kinds, names
