"""Reads files of labels and of triplets, and matches their file names with a gallery's."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Mapping, Sequence

from indexes.errors import UsageError


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


def _rows(path: Path, needed: Sequence[str]) -> tuple[list[str], list[dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            missing = [name for name in needed if name not in columns]
            if not columns:
                raise UsageError(f"{path} is empty; its first line must name {', '.join(needed)}.")
            if missing:
                raise UsageError(
                    f"{path} has no column '{missing[0]}' (it has: {', '.join(columns)}); its "
                    f"first line must name {', '.join(needed)}."
                )
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise UsageError(
                        f"{path}, line {reader.line_num}: {len(columns)} values are expected, as "
                        "in the first line; correct that line."
                    )
                rows.append(dict(row))
            return columns, rows
    except OSError as error:
        raise UsageError(
            f"Cannot read {path}: {(error.strerror or '').lower()}; name a CSV file."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is not a CSV file in UTF-8: {error}.") from error


def read_labels(path: Path) -> Labels:
    """Read a label file: a column ``file``, then one column an attribute.

    Raises:
        UsageError: naming what is wrong with the file, and where.
    """
    columns, rows = _rows(path, ["file"])
    names = tuple(name for name in columns if name != "file")
    if not names:
        raise UsageError(f"{path} has no label column; add one, such as 'color', after 'file'.")
    values: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, start=2):
        if row["file"] in values:
            raise UsageError(
                f"{path}, line {number}: {row['file']} is labelled twice; keep one of its lines."
            )
        values[row["file"]] = {name: row[name].strip() for name in names}
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
    return [Triplet(**{name: row[name] for name in names}) for row in rows]


def match_files(files: Iterable[str], stored: Iterable[str], source: Path) -> dict[str, str]:
    """Find the gallery's path of each file that a label file names.

    A name matches a stored path that equals it or ends with it after a slash.

    Args:
        files: names in the label file.
        stored: the gallery's paths.
        source: the label file, for messages.

    Returns:
        Name in the label file to stored path; names without a match are left out.

    Raises:
        UsageError: if no file matches, or a name matches several pictures.
    """
    by_name: dict[str, list[str]] = {}
    for path in stored:
        by_name.setdefault(path.rsplit("/", 1)[-1], []).append(path)
    matched: dict[str, str] = {}
    for file in files:
        same_name = by_name.get(file.rsplit("/", 1)[-1], [])
        paths = [path for path in same_name if path == file or path.endswith("/" + file)]
        if len(paths) > 1:
            raise UsageError(
                f"{source} names {file}, which matches {paths[0]} and {paths[1]}; write more of "
                "the path."
            )
        if paths:
            matched[file] = paths[0]
    if not matched:
        raise UsageError(
            f"None of the files in {source} is in the gallery; check that both are of one folder."
        )
    return matched
