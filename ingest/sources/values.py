"""What type a user's column has, and its values in that type."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Iterable

from indexes.errors import UsageError
from indexes.store.attributes import TYPES, column_name

#: What a user's column can hold.
Value = str | int | float | bool | date | datetime | None

# A number with a leading zero, such as 00123, is a name and keeps its zeros.
_INT = re.compile(r"-?(0|[1-9]\d{0,17})")
_FLOAT = re.compile(r"-?(0|[1-9]\d*)?(\.\d+|\.)?([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}.*")
_BOOLS = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}

_LARGEST = 2**63


def type_of(value: Any) -> str:
    """The narrowest type a value fits, or empty for no value."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -_LARGEST <= value < _LARGEST else "float"
    if isinstance(value, (float, Decimal)):
        return "float"
    if isinstance(value, datetime):
        return "time"
    if isinstance(value, date):
        return "date"
    return "string"


def type_of_text(text: str) -> str:
    """The narrowest type that what is written in a text table fits, or empty for no value."""
    if not text:
        return ""
    if _INT.fullmatch(text):
        return "int"
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


def type_of_json(value: Any) -> str:
    """As :func:`type_of`; a date in JSON can only be a text."""
    if isinstance(value, str):
        return kind if (kind := type_of_text(value)) in ("date", "time", "") else "string"
    return type_of(value)


def wider(first: str, second: str) -> str:
    """The type that holds the values of both."""
    if not first or not second or first == second:
        return first or second
    pair = {first, second}
    if pair == {"int", "float"}:
        return "float"
    if pair == {"date", "time"}:
        return "time"
    return "string"


def converted(value: Any, kind: str) -> Value:
    """A value in a column's type.

    Raises:
        ValueError: if it cannot be had in that type.
    """
    if type_of(value) == "":
        return None
    if kind == "string":
        if isinstance(value, str):
            return value
        if isinstance(value, (dict, list)):
            return json.dumps(value, ensure_ascii=False)
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value)
    if kind == "bool":
        if isinstance(value, str):
            return _BOOLS[value] if value in _BOOLS else _refuse(value, kind)
        return value if isinstance(value, bool) else _refuse(value, kind)
    if kind in ("int", "float"):
        if isinstance(value, bool) or (kind == "int" and isinstance(value, (float, Decimal))):
            return _refuse(value, kind) if isinstance(value, bool) else _whole(value)
        return float(value) if kind == "float" else int(value)
    if isinstance(value, str):
        value = date.fromisoformat(value) if _DATE.fullmatch(value) else _moment(value)
    if kind == "date":
        if isinstance(value, datetime):
            return _refuse(value, kind)
        return value if isinstance(value, date) else _refuse(value, kind)
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    return _refuse(value, kind)


def _whole(value: float | Decimal) -> int:
    if value != int(value):
        raise ValueError(f"{value} is no int")
    return int(value)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _refuse(value: Any, kind: str) -> Value:
    raise ValueError(f"{value!r} is no {kind}")


class Columns:
    """The user's columns of one source: which are taken, as what, and under which names."""

    def __init__(self, name: str, given: tuple[str, ...] | None):
        """Take what ``--columns`` says.

        Args:
            name: of the source, for messages.
            given: each ``NAME`` or ``NAME:TYPE``; ``None`` for all there are.

        Raises:
            UsageError: if a type is not known.
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
        self._seen: dict[str, str] = {}

    @property
    def seen(self) -> list[str]:
        """The columns that were seen and are taken."""
        return list(self._seen)

    def see(self, column: str, kind: str) -> None:
        """Widen a column's type by one more value's, empty for no value."""
        if self._wanted is None or column in self._wanted:
            self._seen[column] = wider(self._seen.get(column, ""), kind)

    def settle(self, available: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
        """The columns taken: the gallery's name to type, and the user's name to the gallery's.

        The type is empty for a column that holds no value at all.

        Args:
            available: the columns there are, for the message.

        Raises:
            UsageError: if a wanted column is not there, or two would get one name.
        """
        for column in self._wanted or ():
            if column not in available:
                raise UsageError(
                    f"{self._name} has no column '{column}' (it has: "
                    f"{', '.join(available) or 'none'}); check --columns."
                )
        kinds: dict[str, str] = {}
        names: dict[str, str] = {}
        for column, kind in self._seen.items():
            asked = (self._wanted or {}).get(column, "")
            stored = column_name(column)
            if stored in kinds:
                twin = next(old for old, new in names.items() if new == stored)
                raise UsageError(
                    f"The columns '{twin}' and '{column}' of {self._name} would both be called "
                    f"{stored} in the gallery; leave one out with --columns."
                )
            kinds[stored], names[column] = asked or kind, stored
        return kinds, names
