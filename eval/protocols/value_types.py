"""Types of values in annotation files: each has a check and words for error messages."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ValueType:
    """A type of value in a JSON file.

    Attributes:
        singular: such as ``a whole number``, for messages.
        plural: such as ``whole numbers``.
        matches: whether a value is of this type.
    """

    singular: str
    plural: str
    matches: Callable[[object], bool]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


#: A sentence; may be empty.
TEXT = ValueType("text", "texts", lambda value: isinstance(value, str))

#: A text that is not empty.
NAME = ValueType("a name", "names", lambda value: isinstance(value, str) and bool(value.strip()))

#: A whole number.
NUMBER = ValueType("a whole number", "whole numbers", _is_whole)

#: Left, upper, width and height.
BOX = ValueType(
    "four numbers (left, upper, width, height)",
    "lists of four numbers",
    lambda value: isinstance(value, list) and len(value) == 4 and all(map(_is_real, value)),
)


def either(first: ValueType, second: ValueType) -> ValueType:
    """Return the type of values that are of one of two types."""
    return ValueType(
        f"{first.singular} or {second.singular}",
        f"{first.plural} or {second.plural}",
        lambda value: first.matches(value) or second.matches(value),
    )


def list_of(item: ValueType, length: int | None = None) -> ValueType:
    """Return the type of lists of values, of a given length if one is given."""
    items = item.plural if length is None else f"{length} {item.plural}"
    return ValueType(
        f"a list of {items}",
        f"lists of {items}",
        lambda value: (
            isinstance(value, list)
            and length in (None, len(value))
            and all(item.matches(one) for one in value)
        ),
    )


def object_with(**fields: ValueType) -> ValueType:
    """Return the type of objects that have some fields; they may have others."""
    described = ", ".join(f"'{name}' ({field.singular})" for name, field in fields.items())
    described = f" with {described}" if described else ""
    return ValueType(
        f"an object{described}",
        f"objects{described}",
        lambda value: (
            isinstance(value, dict)
            and all(name in value and field.matches(value[name]) for name, field in fields.items())
        ),
    )


def mapping_of(item: ValueType) -> ValueType:
    """Return the type of objects of names to values."""
    return ValueType(
        f"an object of names to {item.plural}",
        f"objects of names to {item.plural}",
        lambda value: isinstance(value, dict) and all(item.matches(one) for one in value.values()),
    )


#: A value of a label, as most files have it.
LABEL = either(NUMBER, NAME)
