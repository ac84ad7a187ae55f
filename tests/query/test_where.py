"""Filters say what SQL says: sqlite is asked the same of the same rows."""

from __future__ import annotations

import datetime
import sqlite3

import numpy as np
import pyarrow as pa
import pytest

from indexes.errors import UsageError
from query.filters.where import matching

COLUMNS = {
    "path": pa.string(),
    "width": pa.int32(),
    "price": pa.float64(),
    "brand": pa.string(),
    "sold": pa.bool_(),
    "taken_at": pa.timestamp("s"),
    "day": pa.date32(),
}


def rows(count: int = 200) -> list[dict[str, object]]:
    draw = np.random.default_rng(5)

    def maybe(value: object) -> object:
        return None if draw.random() < 0.2 else value

    moment = datetime.datetime(2020, 1, 1)
    made = []
    for number in range(count):
        at = moment + datetime.timedelta(hours=int(draw.integers(0, 30_000)))
        made.append(
            {
                "path": f"shop/{number % 7}/x{number}.jpg",
                "width": maybe(int(draw.integers(-5, 30))),
                "price": maybe(float(draw.integers(0, 40)) / 4),
                "brand": maybe(str(draw.choice(["acme", "Acme", "b%c", "o'hara", "É", ""]))),
                "sold": maybe(bool(draw.integers(2))),
                "taken_at": maybe(at),
                "day": maybe(at.date()),
            }
        )
    return made


ROWS = rows()
TABLE = pa.Table.from_pylist(ROWS, schema=pa.schema(list(COLUMNS.items())))


@pytest.fixture(scope="module")
def sqlite() -> sqlite3.Connection:
    base = sqlite3.connect(":memory:")
    base.execute("PRAGMA case_sensitive_like = ON")
    base.execute(f"CREATE TABLE t (number INTEGER, {', '.join(COLUMNS)})")
    for number, row in enumerate(ROWS):
        values = [
            None if v is None else v if isinstance(v, (int, float)) else str(v)
            for v in row.values()
        ]
        base.execute(f"INSERT INTO t VALUES (?{', ?' * len(COLUMNS)})", [number, *values])
    return base


def asked(base: sqlite3.Connection, where: str) -> list[int]:
    return [n for (n,) in base.execute(f"SELECT number FROM t WHERE {where} ORDER BY number")]


def random_filter(draw: np.random.Generator, depth: int = 0) -> str:
    kind = draw.integers(0, 13 if depth < 4 else 9)
    sign = draw.choice(["=", "<>", "!=", "<", "<=", ">", ">="])
    number, other = (round(float(n), 1) for n in draw.uniform(-5, 30, 2))
    turned = draw.choice(["", "NOT "])
    date = f"'202{draw.integers(0, 4)}-0{draw.integers(1, 9)}-1{draw.integers(0, 9)}'"
    if kind == 0:
        return f"width {sign} {number}"
    if kind == 1:
        return f"brand {sign} '{draw.choice(['acme', 'Acme', 'E', 'b%c'])}'"
    if kind == 2:
        return f"price {turned}BETWEEN {min(number, other)} AND {max(number, other)}"
    if kind == 3:
        return f"brand {turned}IN ('acme', 'o''hara', '')"
    if kind == 4:
        return f"path {turned}LIKE '{draw.choice(['%1.jpg', 'shop/_/x2%', '%'])}'"
    if kind == 5:
        column = draw.choice(list(COLUMNS))
        return f"{column} IS {turned}NULL"
    if kind == 6:
        return f"{draw.choice(['', '+ '])}price * 2 - 1 {sign} width / 2.0"
    if kind == 7:
        return f"{turned}sold"
    if kind == 8:
        return f"day {sign} {date}"
    left, right = random_filter(draw, depth + 1), random_filter(draw, depth + 1)
    if kind == 9:
        return f"NOT ({left})"
    return f"({left}) {draw.choice(['AND', 'or'])} {draw.choice(['', 'not '])}({right})"


def test_random_filters_say_what_sqlite_says(sqlite: sqlite3.Connection) -> None:
    draw = np.random.default_rng(9)
    sizes = []
    for _ in range(600):
        where = random_filter(draw)
        found = np.flatnonzero(matching(TABLE, where)).tolist()
        assert found == asked(sqlite, where), where
        sizes.append(len(found))
    assert sum(0 < size < len(ROWS) for size in sizes) > 300


@pytest.mark.parametrize(
    ("where", "same"),
    [
        ("taken_at >= '2021'", "taken_at >= '2021-01-01 00:00:00'"),
        ("taken_at < '2021-05'", "taken_at < '2021-05-01 00:00:00'"),
        ("taken_at = timestamp '2020-01-02 03:00'", "taken_at = '2020-01-02 03:00:00'"),
        ("year(taken_at) = 2021 and month(taken_at) = 3", "taken_at LIKE '2021-03-%'"),
        ("lower(brand) = 'acme'", "brand IN ('acme', 'Acme')"),
        ("brand ilike 'ACME'", "brand IN ('acme', 'Acme')"),
        ("BRAND = 'É' OR length(brand) = 0", "brand = 'É' OR brand = ''"),
        ('"width" > `price`', "width > price"),
        ("width = 3 OR width = 4 AND sold", "width = 3 OR (width = 4 AND sold)"),
        ("not width = 3 and sold", "(NOT width = 3) AND sold"),
        ("1 = 1", "1 = 1"),
        ("width in (1, 2.0, -3)", "width IN (1, 2, -3)"),
        ("width between -2 and 1 + 1 and sold = true", "width >= -2 AND width <= 2 AND sold"),
    ],
)
def test_what_is_written_otherwise_in_sqlite(
    where: str, same: str, sqlite: sqlite3.Connection
) -> None:
    assert np.flatnonzero(matching(TABLE, where)).tolist() == asked(sqlite, same)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nope = 1", "there is no column 'nope'; the columns are path \\(text\\), width"),
        ("width = 1 brand = 'acme'", "AND, OR or the end is expected where it says 'brand'"),
        ("width = 1; DROP TABLE t", "';' means nothing here"),
        ("width IN (SELECT width FROM t)", "there is no column 'SELECT'"),
        ('brand = "acme"', "a text goes in single quotes: 'acme'"),
        ("brand = acme", "there is no column 'acme'"),
        ("brand = NULL", "write IS NULL"),
        ("width > '3'", "width is a number and '3' is a text"),
        ("width", "width is a number that is compared with nothing"),
        ("taken_at > 'yesterday'", "'yesterday' is not a date; a date is written '2024-05-31'"),
        ("taken_at > '2024-01-01T00:00+02:00'", "has a time zone"),
        ("repeat('a', 9) = 'b'", "there is no function 'repeat', only lower, upper"),
        ("year(width) = 1", r"year\(\) takes a time, and width is a number"),
        ("brand LIKE width", "LIKE compares a text with a pattern"),
        ("brand = 'a", "a text that begins with ' does not end"),
        ("", "it is empty"),
        ("width >", "a column or a value is expected at the end"),
        ("(" * 31 + "sold" + ")" * 31, "nested more than 30 deep"),
        ("lower(" * 200 + "name" + ")" * 200 + " = 'x'", "nested more than 30 deep"),
        ("(lower(" * 5000, "nested more than 30 deep"),
        ("year(" * 31 + "sold", "nested more than 30 deep"),
        (3, "a int is no text"),
        (float("nan"), "a float is no text"),
        ("x" * 200_000, "200000 characters, 100000 are allowed"),
        ("brand = '\udcff'", "not text in UTF-8"),
    ],
)
def test_a_wrong_filter_is_one_sentence_that_names_the_columns(where: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        matching(TABLE, where)
    assert "price (number), brand (text), sold (truth)" in str(refused.value)
    assert len(str(refused.value)) < 600


def test_long_filters_neither_recurse_nor_take_long() -> None:
    for where in (
        " OR ".join(["width = 1"] * 5000),
        "NOT " * 10_000 + "sold",
        f"brand IN ({', '.join(repr(str(n)) for n in range(10_000))})",
        "-" * 50_000 + "1 = width",
    ):
        assert matching(TABLE, where).shape == (200,)
