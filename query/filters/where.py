"""Parses and evaluates filters written as after WHERE in SQL.

::

    brand = 'acme' AND price < 20
    taken_at >= '2024-05' AND NOT (path LIKE '%/raw/%' OR width < height)
    word IN ('red', 'dark red') OR stock IS NULL OR year(taken_at) BETWEEN 2019 AND 2021

A filter that cannot be parsed to its last character is rejected. (Lance's own filters ignore
whatever follows the first expression, so that a forgotten AND silently changes the result, and
some of their functions can run for minutes.) A filter can refer only to the given columns and to
the functions below, and can change nothing.

As in SQL, a comparison with an empty cell is neither true nor false. Only rows for which the whole
filter is true are returned.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from indexes.errors import UsageError
from query.question import similar_names

#: The longest filter: enough for thousands of product numbers in one IN.
MAX_CHARACTERS = 100_000

#: The deepest nesting of parentheses, those of functions included.
_MAX_DEPTH = 30

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?!\w))
    |(?P<text>'(?:[^']|'')*')
    |(?P<quoted>"[^"]+"|`[^`]+`)
    |(?P<word>[^\W\d]\w*|_\w*)
    |(?P<sign><=|>=|<>|!=|==|[=<>()+\-*/,])
    |(?P<end>$)
    )""",
    re.VERBOSE,
)

_COMPARE = {"=": "equal", "==": "equal", "!=": "not_equal", "<>": "not_equal"}
_COMPARE |= {"<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal"}

#: Name to the kind of its argument, the kind of its result, and the function.
_FUNCTIONS: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "lower": ("text", "text", pc.utf8_lower),
    "upper": ("text", "text", pc.utf8_upper),
    "length": ("text", "number", pc.utf8_length),
    "year": ("time", "number", pc.year),
    "month": ("time", "number", pc.month),
    "day": ("time", "number", pc.day),
    "hour": ("time", "number", pc.hour),
}

_RESERVED = frozenset("and or not in between like ilike is null true false".split())

_TIMES = "a date is written '2024-05-31', '2024-05' or '2024', with a time '2024-05-31 18:30'"


class _Wrong(Exception):
    """A filter that cannot be parsed, with the reason for the user."""


@dataclass(frozen=True)
class _Value:
    """The value of a part of a filter; ``data`` is an Arrow array or scalar."""

    data: Any
    kind: str
    shown: str

    @property
    def literal(self) -> bool:
        return isinstance(self.data, pa.Scalar)


def matching(table: pa.Table, where: str) -> NDArray[np.bool_]:
    """The rows of a table for which a filter is true.

    Args:
        table: the filter may refer to its columns: numbers, texts, truth values, dates and times.
        where: the filter.

    Returns:
        bool [rows].

    Raises:
        UsageError: if the filter cannot be parsed; the message lists the columns.
    """
    try:
        if not isinstance(where, str):
            raise _Wrong(f"a {type(where).__name__} is no text")
        if len(where) > MAX_CHARACTERS:
            raise _Wrong(f"it has {len(where)} characters, {MAX_CHARACTERS} are allowed")
        if any("\ud800" <= character <= "\udfff" for character in where):
            raise _Wrong("it holds bytes that are not text in UTF-8")
        found = _Parser(table, where).whole()
    except (_Wrong, pa.ArrowException) as wrong:
        reason = str(wrong).splitlines()[0][:200].rstrip(".")
        raise UsageError(
            f"Cannot filter by {_shortened(where)}: {reason}; the columns are "
            f"{_columns(table)}, and texts go in single quotes, as in \"path LIKE '%.jpg'\"."
        ) from wrong
    if isinstance(found, pa.Scalar):
        return np.full(table.num_rows, found.as_py() is True)
    true = pc.fill_null(found, False)
    return np.asarray(true.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _shortened(given: object, length: int = 60) -> str:
    text = given if isinstance(given, str) else str(given)
    return repr(text if len(text) <= length else text[:length] + "...")


def _columns(table: pa.Table) -> str:
    return ", ".join(f"{field.name} ({_kind(field.type)})" for field in table.schema)


def _kind(data_type: pa.DataType) -> str:
    if pa.types.is_boolean(data_type):
        return "truth"
    if pa.types.is_integer(data_type) or pa.types.is_floating(data_type):
        return "number"
    return "time" if pa.types.is_temporal(data_type) else "text"


class _Parser:
    """Parses a filter from left to right and evaluates it at the same time.

    Precedence as in SQL: OR, AND, NOT, comparisons, ``+ -``, ``* /``.
    """

    def __init__(self, table: pa.Table, text: str):
        self._table = table
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    # -- the tokens ------------------------------------------------------------------------

    def _next(self) -> tuple[str, str]:
        return self._tokens[self._at]

    def _take(self, *wanted: str) -> str:
        """Consume and return the next sign or word if it is one of these; else an empty text."""
        kind, text = self._next()
        plain = text.lower() if kind == "word" else text
        if kind in ("word", "sign") and plain in wanted:
            self._at += 1
            return plain
        return ""

    def _need(self, *wanted: str) -> None:
        if not self._take(*wanted):
            raise self._unexpected(" or ".join(word.upper() for word in wanted))

    def _unexpected(self, wanted: str) -> _Wrong:
        kind, text = self._next()
        where = "at the end" if kind == "end" else f"where it says {_shortened(text, 30)}"
        return _Wrong(f"{wanted} is expected {where}")

    # -- truth -----------------------------------------------------------------------------

    def whole(self) -> Any:
        found = self._either()
        if self._next()[0] != "end":
            raise self._unexpected("AND, OR or the end")
        return self._truth(found)

    def _either(self) -> _Value:
        found = self._both()
        while self._take("or"):
            data = pc.or_kleene(self._truth(found), self._truth(self._both()))
            found = _Value(data, "truth", "the condition before OR")
        return found

    def _both(self) -> _Value:
        found = self._negated()
        while self._take("and"):
            data = pc.and_kleene(self._truth(found), self._truth(self._negated()))
            found = _Value(data, "truth", "the condition before AND")
        return found

    def _negated(self) -> _Value:
        negations = 0
        while self._take("not"):
            negations += 1
        found = self._comparison()
        if negations:
            data = self._truth(found)
            return _Value(pc.invert(data) if negations % 2 else data, "truth", "what follows NOT")
        return found

    def _truth(self, value: _Value) -> Any:
        if value.kind != "truth":
            raise _Wrong(f"{value.shown} is a {value.kind} that is compared with nothing")
        return value.data

    def _comparison(self) -> _Value:
        left = self._sum()
        sign = self._take(*_COMPARE)
        if sign:
            return self._truth_of(left, self._compared(sign, left, self._sum()))
        if self._take("is"):
            negated = bool(self._take("not"))
            self._need("null")
            empty = pc.is_null(left.data)
            return self._truth_of(left, pc.invert(empty) if negated else empty)
        negated = bool(self._take("not"))
        word = self._take("in", "between", "like", "ilike")
        if not word:
            if negated:
                raise self._unexpected("IN, BETWEEN or LIKE")
            return left
        if word == "in":
            data = self._among(left)
        elif word == "between":
            least = self._sum()
            self._need("and")
            data = pc.and_kleene(
                self._compared(">=", left, least), self._compared("<=", left, self._sum())
            )
        else:
            data = self._like(left, word == "ilike")
        return self._truth_of(left, pc.invert(data) if negated else data)

    @staticmethod
    def _truth_of(left: _Value, data: Any) -> _Value:
        return _Value(data, "truth", f"the condition on {left.shown}")

    def _compared(self, sign: str, left: _Value, right: _Value) -> Any:
        left, right = _comparable(left, right)
        return pc.call_function(_COMPARE[sign], [left.data, right.data])

    def _among(self, left: _Value) -> Any:
        self._need("(")
        members = []
        while True:
            member = self._sum()
            if not member.literal:
                raise _Wrong(f"{member.shown} in the list of IN is not a plain value")
            left, member = _comparable(left, member)
            members.append(member.data)
            if not self._take(","):
                break
        self._need(")")
        if left.kind == "number":
            members = [member.cast(pa.float64()) for member in members]
            left = _Value(pc.cast(left.data, pa.float64()), "number", left.shown)
        values = pa.array([member.as_py() for member in members], members[0].type)
        found = pc.is_in(left.data, value_set=values)
        return pc.if_else(pc.is_null(left.data), pa.scalar(None, pa.bool_()), found)

    def _like(self, left: _Value, ignore_case: bool) -> Any:
        pattern = self._sum()
        if pattern.kind != "text" or not pattern.literal or left.kind != "text":
            raise _Wrong(f"LIKE compares a text with a pattern, as in {left.shown} LIKE '%red%'")
        return pc.match_like(left.data, pattern.data.as_py(), ignore_case=ignore_case)

    # -- values ----------------------------------------------------------------------------

    def _sum(self) -> _Value:
        found = self._product()
        while sign := self._take("+", "-"):
            found = _computed(sign, found, self._product())
        return found

    def _product(self) -> _Value:
        found = self._single()
        while sign := self._take("*", "/"):
            found = _computed(sign, found, self._single())
        return found

    def _single(self) -> _Value:
        negative = False
        while sign := self._take("-", "+"):
            negative ^= sign == "-"
        zero = _Value(pa.scalar(0), "number", "0")
        return _computed("-", zero, self._plain()) if negative else self._plain()

    def _plain(self) -> _Value:
        if self._take("("):
            return self._nested(self._either)
        kind, text = self._next()
        if kind == "word" and text.lower() in ("true", "false"):
            self._at += 1
            return _Value(pa.scalar(text.lower() == "true"), "truth", text)
        if kind == "word" and text.lower() == "null":
            raise _Wrong("nothing equals NULL; write IS NULL or IS NOT NULL")
        if kind in ("end", "sign") or (kind == "word" and text.lower() in _RESERVED):
            raise self._unexpected("a column or a value")
        self._at += 1
        if kind == "number":
            return _Value(_number(text), "number", text)
        if kind == "text":
            return _Value(pa.scalar(text[1:-1].replace("''", "'")), "text", text[:30])
        if kind == "word" and text.lower() in ("date", "timestamp") and self._next()[0] == "text":
            text = self._next()[1]
            self._at += 1
            return _Value(_time(text[1:-1]), "time", text[:30])
        if kind == "word" and self._take("("):
            return self._function(text)
        return self._column(text, kind == "quoted")

    def _nested(self, parse: Callable[[], _Value]) -> _Value:
        """What is in parentheses that are open, up to and with the closing one."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _Wrong(f"parentheses are nested more than {_MAX_DEPTH} deep")
        found = parse()
        self._need(")")
        self._depth -= 1
        return found

    def _function(self, name: str) -> _Value:
        if name.lower() not in _FUNCTIONS:
            raise _Wrong(
                f"there is no function {_shortened(name, 30)}, only {', '.join(_FUNCTIONS)}"
            )
        takes, gives, function = _FUNCTIONS[name.lower()]
        value = self._nested(self._sum)
        if value.kind != takes:
            raise _Wrong(f"{name}() takes a {takes}, and {value.shown} is a {value.kind}")
        return _Value(function(value.data), gives, f"{name}({value.shown})")

    def _column(self, text: str, quoted: bool) -> _Value:
        name = text[1:-1] if quoted else text
        plain = unicodedata.normalize("NFKC", name).lower()
        if plain not in self._table.column_names:
            hint = f" (a text goes in single quotes: '{name[:30]}')" if text[0] == '"' else ""
            meant = similar_names(plain, self._table.column_names)
            raise _Wrong(f"there is no column {_shortened(name, 30)}{hint}{meant}")
        data = self._table.column(plain)
        kind = _kind(data.type)
        if kind == "time":
            data = pc.cast(data, pa.timestamp("us"))
        return _Value(data, kind, plain)


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while not found or found[-1][0] != "end":
        match = _TOKEN.match(text, at)
        if match is None:
            rest = text[at:].lstrip()
            if rest[0] == "'":
                raise _Wrong("a text that begins with ' does not end")
            raise _Wrong(f"{_shortened(rest[:1])} means nothing here")
        kind = match.lastgroup or "end"
        found.append((kind, match[kind]))
        at = match.end()
    if len(found) == 1:
        raise _Wrong("it is empty")
    return found


def _number(text: str) -> pa.Scalar:
    if text.isdigit() and len(text) <= 18:
        return pa.scalar(int(text), pa.int64())
    return pa.scalar(float(text), pa.float64())


def _time(text: str) -> pa.Scalar:
    full = f"{text}-01-01"[:10] if re.fullmatch(r"\d{4}(-\d\d)?", text) else text
    try:
        moment = datetime.fromisoformat(full)
    except ValueError:
        raise _Wrong(f"{_shortened(text, 30)} is not a date; {_TIMES}") from None
    if moment.tzinfo is not None:
        raise _Wrong(f"{_shortened(text, 30)} has a time zone, and times here have none")
    return pa.scalar(moment, pa.timestamp("us"))


def _comparable(left: _Value, right: _Value) -> tuple[_Value, _Value]:
    """Two values made comparable; a literal text compared with a time is parsed as a time."""
    if left.kind == "time" and right.kind == "text" and right.literal:
        right = _Value(_time(right.data.as_py()), "time", right.shown)
    elif right.kind == "time" and left.kind == "text" and left.literal:
        left = _Value(_time(left.data.as_py()), "time", left.shown)
    if left.kind != right.kind:
        raise _Wrong(f"{left.shown} is a {left.kind} and {right.shown} is a {right.kind}")
    return left, right


def _computed(sign: str, left: _Value, right: _Value) -> _Value:
    """Arithmetic on numbers, in double precision: ``3 / 2`` is 1.5, and by zero is infinite."""
    for value in (left, right):
        if value.kind != "number":
            raise _Wrong(f"{value.shown} is a {value.kind}, with which {sign} cannot compute")
    name = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide"}[sign]
    wide = [pc.cast(value.data, pa.float64()) for value in (left, right)]
    return _Value(pc.call_function(name, wide), "number", f"{left.shown} {sign} {right.shown}"[:60])
