"""What a value of an annotation file must be, in words and as a check."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of value in a JSON file.

    Attributes:
        words: such as ``a whole number``, for messages.
        many: its plural.
        fits: whether a value is of this kind.
    """

    words: str
    many: str
    fits: Callable[[object], bool]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


#: A sentence; may be empty.
TEXT = Kind("text", "texts", lambda value: isinstance(value, str))

#: A name of something.
NAME = Kind("a name", "names", lambda value: isinstance(value, str) and bool(value.strip()))

#: A whole number.
NUMBER = Kind("a whole number", "whole numbers", _is_whole)

#: Left, upper, width and height.
BOX = Kind(
    "four numbers (left, upper, width, height)",
    "lists of four numbers",
    lambda value: isinstance(value, list) and len(value) == 4 and all(map(_is_real, value)),
)


def either(first: Kind, second: Kind) -> Kind:
    """One of two."""
    return Kind(
        f"{first.words} or {second.words}",
        f"{first.many} or {second.many}",
        lambda value: first.fits(value) or second.fits(value),
    )


def several(kind: Kind, count: int | None = None) -> Kind:
    """A list, of a given length if one is given."""
    inside = kind.many if count is None else f"{count} {kind.many}"
    return Kind(
        f"a list of {inside}",
        f"lists of {inside}",
        lambda value: (
            isinstance(value, list)
            and count in (None, len(value))
            and all(kind.fits(one) for one in value)
        ),
    )


def having(**fields: Kind) -> Kind:
    """An object with some fields, and perhaps others."""
    inside = ", ".join(f"'{name}' ({kind.words})" for name, kind in fields.items())
    inside = f" with {inside}" if inside else ""
    return Kind(
        f"an object{inside}",
        f"objects{inside}",
        lambda value: (
            isinstance(value, dict)
            and all(name in value and kind.fits(value[name]) for name, kind in fields.items())
        ),
    )


def named(kind: Kind) -> Kind:
    """An object of names to values of one kind."""
    return Kind(
        f"an object of names to {kind.many}",
        f"objects of names to {kind.many}",
        lambda value: isinstance(value, dict) and all(kind.fits(one) for one in value.values()),
    )


#: A value of a label, as most files have it.
LABEL = either(NUMBER, NAME)
