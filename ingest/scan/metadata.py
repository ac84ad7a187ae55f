"""Stores the user's columns: their types, and the rows that changed."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, datetime
from typing import Any, Collection, Mapping, Sequence

import pyarrow as pa

from indexes.errors import UsageError
from indexes.store.attributes import TYPES
from indexes.store.records import FURTHER_ROWS
from indexes.store.writer import Writer
from ingest.scan.known_files import KnownListings
from ingest.sources.base import Source, SourceFile
from ingest.sources.values import Value, common_type

#: Rows in one commit.
_ROWS = 20_000


def unify_column_types(sources: Sequence[Source], existing: Mapping[str, pa.DataType]) -> None:
    """Set the type of every source's columns to the type of the gallery's column.

    Args:
        sources: all sources of one run; their ``columns`` are changed.
        existing: the gallery's columns.

    Raises:
        UsageError: if a column has values that the gallery's column of that name cannot hold.
    """
    type_names = {kind: name for name, kind in TYPES.items()}
    widest: dict[str, str] = {}
    for source in sources:
        for column, kind in source.columns.items():
            widest[column] = common_type(widest.get(column, ""), kind)
    for source in sources:
        for column, kind in source.columns.items():
            if column not in existing:
                source.columns[column] = widest[column] or "string"
                continue
            stored = type_names[existing[column]]
            if common_type(stored, kind) != stored:
                raise UsageError(
                    f"Column '{column}' of {source.name} holds {kind} values, and {stored} values "
                    "in the gallery; rename it in the table, or name the columns to take with "
                    "--columns."
                )
            source.columns[column] = stored


def apply_column_changes(sources: Sequence[Source], changes: Mapping[str, str | None]) -> None:
    """Give every source's columns the names that the user gave them in the gallery.

    Args:
        sources: all sources of one run; their ``columns`` and ``column_names`` are changed.
        changes: as :meth:`indexes.store.gallery.Gallery.column_changes` returns them.

    Raises:
        UsageError: if two columns of a source would then have the same name.
    """
    for source in sources:
        kinds: dict[str, str] = {}
        names: dict[str, str] = {}
        for column, given in source.column_names.items():
            stored = changes.get(given, given)
            if stored is None:
                continue
            if stored in kinds:
                twin = next(other for other, name in names.items() if name == stored)
                raise UsageError(
                    f"The columns '{twin}' and '{column}' of {source.name} would both be called "
                    f"'{stored}' in the gallery, where one was renamed; rename it again with `cies "
                    "columns rename`, or leave one out with --columns."
                )
            kinds[stored], names[column] = source.columns[given], stored
        source.columns, source.column_names = kinds, names


class ColumnUpdater:
    """Compares the user's columns with those in the gallery, and writes the rows that differ.

    Attributes:
        changed: how many rows differed.
        dropped: how many rows lost a value because their source does not have the column any
            more, by source and column.
    """

    def __init__(
        self,
        known: KnownListings,
        writer: Writer | None,
        several: bool,
        outdated: Mapping[str, Collection[str]],
    ):
        """Store the arguments; nothing is written yet.

        Args:
            known: the rows in the gallery.
            writer: the writer of the gallery; ``None`` to count only.
            several: whether more than one source of this run may list the same file.
            outdated: the columns that a source, by its name, had before and does not have now.
        """
        self.changed = 0
        self.dropped: Counter[tuple[str, str]] = Counter()
        self._known = known
        self._writer = writer
        self._outdated = outdated
        #: Rows written in this run by path, so that the next source compares with them.
        self._written: dict[str, dict[str, Any]] | None = {} if several else None
        self._pending: dict[str, dict[str, Any]] = {}
        self._types: dict[str, pa.DataType] = {}

    def update(self, source: Source, files: Sequence[SourceFile], returned: Sequence[bool]) -> None:
        """Compare files that a source lists, and write their rows in batches.

        Args:
            source: the source.
            files: its files, with values in the order of the source's columns.
            returned: whether each file was gone before.
        """
        names = list(source.columns)
        self._types |= {name: TYPES[source.columns[name]] for name in names}
        outdated = self._outdated.get(source.name, ())
        known = self._known.existing([file.path for file in files])
        for file, old, back in zip(files, known, returned, strict=True):
            if self._written:
                old = self._written.get(file.path, old)
            row = dict(old or {"path": file.path, "source": source.name})
            if back:
                row["source"] = source.name
            row |= dict(zip(names, file.values or (), strict=True))
            if file.further or row.get(FURTHER_ROWS) is not None:
                self._types[FURTHER_ROWS] = pa.string()
                row[FURTHER_ROWS] = _further(names, file.further)
            for name in outdated:
                if row.get(name) is not None:
                    row[name] = None
                    self.dropped[source.name, name] += 1
            if row == old or (old and _equal_rows(row, old)):
                continue
            self.changed += 1
            if self._writer is None:
                continue
            self._pending[file.path] = row
            if self._written is not None:
                self._written[file.path] = row
        if len(self._pending) >= _ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are pending."""
        if not self._pending or self._writer is None:
            return
        rows = list(self._pending.values())
        names = {name for row in rows for name in row} - {"path", "source"}
        types = {name: self._types.get(name) or self._known.type_of(name) for name in names}
        fields = [("path", pa.string()), ("source", pa.string()), *sorted(types.items())]
        self._writer.put_listings(pa.Table.from_pylist(rows, schema=pa.schema(fields)))
        self._pending.clear()


def _further(names: Sequence[str], rows: Sequence[Sequence[Value]]) -> str | None:
    """Further rows of a file as the gallery stores them."""
    if not rows:
        return None
    return json.dumps(
        [dict(zip(names, row, strict=True)) for row in rows], default=lambda day: day.isoformat()
    )


def _equal_rows(row: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether two rows have equal values; a missing column counts as empty."""
    return all(_equal(row.get(name), old.get(name)) for name in row.keys() | old.keys())


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, float) and isinstance(second, float) and first != first:
        return second != second
    if isinstance(first, date) and isinstance(second, date):
        return isinstance(first, datetime) == isinstance(second, datetime) and first == second
    return bool(first == second)
