"""The tables of docs/json.md, compared with printed JSON documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cies.cli.app import app

PAGE = Path(__file__).parents[2] / "docs" / "json.md"


KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "int": (int,),
    "number": (int, float),
    "bool": (bool,),
    "object": (dict,),
    "null": (type(None),),
}


def documented(heading: str) -> dict[str, str]:
    """The fields of a document and their types, from its table."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| [^|]+ \|$", section, re.MULTILINE)
    assert rows and len(dict(rows)) == len(rows)
    return dict(rows)


def leaves(value: Any, table: dict[str, str], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its path; an object by the table is one value."""
    if isinstance(value, dict) and "object" not in table.get(path, "").split(" or "):
        for name, inner in value.items():
            yield from leaves(inner, table, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list) and table.get(path) != "any":
        for inner in value:
            yield from leaves(inner, table, f"{path}[]")
    else:
        yield path, value


def wrong(document: Any, table: dict[str, str]) -> list[str]:
    """Values that the table lacks, or lists with another type."""
    found = []
    for path, value in leaves(document, table):
        kinds = table.get(path, "").split(" or ")
        types = tuple(kind for name in kinds for kind in KINDS.get(name, ()))
        right = kinds == ["any"] or (
            isinstance(value, types) and (not isinstance(value, bool) or bool in types)
        )
        if not right:
            found.append(f"{path} = {value!r}, documented as {table.get(path)}")
    return found


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run a command in this process; returns its stdout."""
    capsys.readouterr()
    app([str(word) for word in words], standalone_mode=False)
    return capsys.readouterr().out
