"""Reads files of labels and of triplets, and matches their file names with a gallery's."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Mapping, Sequence

from indexes.errors import UsageError
from ingest.sources.rows import read_rows
from ingest.sources.tables import is_image_column

#: How a path begins that does not depend on the current folder, on any system.
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/")


@dataclass(frozen=True)
class Labels:
    """The content of a label file.

    Attributes:
        path: where it was read.
        columns: names of the attributes.
        values: file name to attribute to value; an empty value is unknown.
    """

    path: Path
    columns: tuple[str, ...]
    values: Mapping[str, Mapping[str, str]]


def _rows(path: Path, needed: Sequence[str]) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """The columns of a table, and its rows with their names for messages.

    Args:
        path: the table.
        needed: columns that it must have, in any case of letters; ``file`` may have any name that
            names pictures in a table that is ingested.

    Raises:
        UsageError: naming what is wrong with the file, and where.
    """
    columns, rows = read_rows(str(path))
    if not columns:
        raise UsageError(f"{path} is empty; its first line must name {', '.join(needed)}.")
    names = {name: _column(name, columns, path) for name in needed}
    missing = [name for name, found in names.items() if not found]
    if missing:
        raise UsageError(
            f"{path} has no column '{missing[0]}' (it has: {', '.join(columns)}); its "
            f"first line must name {', '.join(needed)}."
        )
    given = {found: name for name, found in names.items()}
    found = []
    for row, values in rows:
        if isinstance(values, str):
            raise UsageError(f"{path}, {row}: {values}; correct it.")
        found.append((row, {given.get(name, name): text for name, text in values.items()}))
    return [given.get(name, name) for name in columns], found


def _column(wanted: str, columns: Sequence[str], path: Path) -> str:
    """The column of that name; empty if there is none.

    Raises:
        UsageError: if several could be meant.
    """
    if wanted in columns:
        return wanted
    found = [name for name in columns if name.casefold() == wanted]
    if not found and wanted == "file":
        found = [name for name in columns if is_image_column(name)]
    if len(found) > 1:
        raise UsageError(
            f"{path}: both {' and '.join(found)} could be the column '{wanted}'; rename one of "
            "them."
        )
    return found[0] if found else ""


def read_labels(path: Path) -> Labels:
    """Read a label file: a column ``file``, and one column an attribute.

    Raises:
        UsageError: naming what is wrong with the file, and where.
    """
    columns, rows = _rows(path, ["file"])
    names = tuple(name for name in columns if name != "file")
    if not names:
        raise UsageError(f"{path} has no label column; add one, such as 'color', after 'file'.")
    folded = [name.casefold() for name in names]
    twice = next((name for name in names if folded.count(name.casefold()) > 1), None)
    if twice is not None:
        raise UsageError(f"{path} names the column '{twice}' twice; rename one of them.")
    values: dict[str, dict[str, str]] = {}
    for row, given in rows:
        file = plain_name(given["file"])
        if not file:
            raise UsageError(f"{path}, {row}: no file is named; name one, or delete the row.")
        if file in values:
            raise UsageError(f"{path}, {row}: {file} is labelled twice; keep one of its rows.")
        values[file] = {name: given[name] for name in names}
    return Labels(path, names, values)


@dataclass(frozen=True)
class Triplet:
    """Under ``condition``, ``query`` is more similar to ``positive`` than to ``negative``."""

    pair: str
    condition: str
    query: str
    positive: str
    negative: str

    @property
    def files(self) -> tuple[str, str, str]:
        """The query, the positive and the negative."""
        return self.query, self.positive, self.negative


def read_triplets(path: Path) -> list[Triplet]:
    """Read a triplet file: columns pair, condition, query, positive, negative.

    Raises:
        UsageError: naming what is wrong with the file.
    """
    names = ["pair", "condition", "query", "positive", "negative"]
    _, rows = _rows(path, names)
    files = ("query", "positive", "negative")
    return [
        Triplet(**{n: plain_name(row[n]) if n in files else row[n] for n in names})
        for _, row in rows
    ]


def plain_name(name: str) -> str:
    """A file name as tables of other programs write it, without ``./`` and doubled slashes."""
    text = name.strip().removeprefix("file://")
    return posixpath.normpath(text) if text else ""


def match_files(files: Iterable[str], stored: Iterable[str], source: Path) -> dict[str, str]:
    """Find the gallery's path of each file that a label file names.

    A name matches a stored path that equals it or ends with it after a slash; an absolute one also
    matches a stored path, relative to the gallery's root, that it ends with. Composed and
    decomposed letters are the same, and backslashes are slashes where no name has them.

    Args:
        files: names in the label file.
        stored: the gallery's paths.
        source: the label file, for messages.

    Returns:
        Name in the label file to stored path; names without a match are left out.

    Raises:
        UsageError: if no file matches, a name matches several pictures, or two names match one.
    """
    by_name: dict[str, list[tuple[str, str]]] = {}
    for path in stored:
        plain = unicodedata.normalize("NFC", path)
        by_name.setdefault(plain.rsplit("/", 1)[-1], []).append((plain, path))

    def found(name: str) -> list[str]:
        same_name = by_name.get(name.rsplit("/", 1)[-1], [])
        exact = [path for plain, path in same_name if plain == name or plain.endswith("/" + name)]
        if exact or not _ABSOLUTE.match(name):
            return exact
        below = [(plain, path) for plain, path in same_name if name.endswith("/" + plain)]
        return [max(below, key=lambda one: len(one[0]))[1]] if below else []

    matched: dict[str, str] = {}
    named: dict[str, str] = {}
    for file in files:
        name = unicodedata.normalize("NFC", file)
        paths = found(name) or found(posixpath.normpath(name.replace("\\", "/")))
        if len(paths) > 1:
            raise UsageError(
                f"{source} names {file}, which matches {paths[0]} and {paths[1]}; write more of "
                "the path."
            )
        if not paths:
            continue
        if paths[0] in named:
            raise UsageError(
                f"{source} names {named[paths[0]]} and {file}, which are the same picture; keep "
                "one of them."
            )
        named[paths[0]] = file
        matched[file] = paths[0]
    if not matched:
        raise UsageError(
            f"None of the files in {source} is in the gallery; check that both are of one folder."
        )
    return matched
