"""Reads a table of any form as rows of texts: CSV, TSV, JSON Lines, Parquet, Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from indexes.errors import UsageError
from ingest.sources.base import suffix_of
from ingest.sources.cells import contains_pictures, open_cells
from ingest.sources.remote import first_line, size_and_version
from ingest.sources.text_tables import DelimitedText, Row, json_lines
from ingest.sources.values import convert


def read_rows(location: str) -> tuple[list[str], Iterator[Row]]:
    """The columns of a table and its rows; all values are texts, empty for none.

    The suffix decides the form; a file with another suffix is read as CSV.

    Raises:
        UsageError: naming what is wrong with the table.
    """
    suffix = suffix_of(location)
    if suffix in (".parquet", ".arrow"):
        return _cells(location)
    if suffix in (".jsonl", ".ndjson"):
        rows = list(json_lines(location))
        columns = list(dict.fromkeys(name for _, v in rows if isinstance(v, dict) for name in v))
        return columns, (as_texts(row, columns) for row in rows)
    table = DelimitedText(location)
    return table.columns, table.rows()


def _cells(location: str) -> tuple[list[str], Iterator[Row]]:
    try:
        _, version = size_and_version(location)
        cells = open_cells(location, version)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"Cannot read {location}: {first_line(error)}; check the file.") from error
    columns = [field.name for field in cells.schema if not contains_pictures(field.type)]

    def rows() -> Iterator[Row]:
        number = 0
        for batch in cells.batches(columns):
            for values in batch.to_pylist():
                yield as_texts((f"row {number}", values), columns)
                number += 1

    return columns, rows()


def as_texts(row: Row, columns: list[str]) -> Row:
    """A row with the values of some columns as texts, empty for none; the reason if one cannot be
    read.
    """
    name, values = row
    if isinstance(values, str):
        return row
    texts: dict[str, str] = {}
    for column in columns:
        try:
            texts[column] = _text(values.get(column))
        except ValueError as error:
            return name, f"column '{column}': {error}"
    return name, texts


def _text(value: Any) -> str:
    text = convert(value, "string")
    return "" if text is None else str(text).strip()
