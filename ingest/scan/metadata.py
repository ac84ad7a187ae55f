"""The user's columns on their way into a gallery."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Mapping, Sequence

import pyarrow as pa

from indexes.errors import UsageError
from indexes.store.attributes import TYPES
from indexes.store.writer import Writer
from ingest.scan.known_files import KnownListings
from ingest.sources.base import Found, Source
from ingest.sources.values import wider

#: Rows in one commit.
_ROWS = 20_000


def agree_on_columns(sources: Sequence[Source], there: Mapping[str, pa.DataType]) -> None:
    """Give every source's columns the type they have, or will have, in the gallery.

    Args:
        sources: all those of one run; their ``columns`` are changed.
        there: the gallery's columns.

    Raises:
        UsageError: if a column holds what the gallery's column of that name cannot.
    """
    words = {kind: word for word, kind in TYPES.items()}
    wide: dict[str, str] = {}
    for source in sources:
        for column, kind in source.columns.items():
            wide[column] = wider(wide.get(column, ""), kind)
    for source in sources:
        for column, kind in source.columns.items():
            if column not in there:
                source.columns[column] = wide[column] or "string"
                continue
            known = words[there[column]]
            if wider(known, kind) != known:
                raise UsageError(
                    f"Column '{column}' of {source.name} holds {kind} values, and {known} values "
                    "in the gallery; rename it in the table, or name the columns to take with "
                    "--columns."
                )
            source.columns[column] = known


class Listings:
    """Compares what tables say of files with what the gallery has, and writes what differs."""

    def __init__(self, known: KnownListings, writer: Writer | None, several: bool):
        """Write nothing yet.

        Args:
            known: what the gallery has.
            writer: where to; ``None`` to count only.
            several: whether more than one source of this run may list the same file.
        """
        self.changed = 0
        self._known = known
        self._writer = writer
        self._overlay: dict[str, dict[str, Any]] | None = {} if several else None
        self._rows: dict[str, dict[str, Any]] = {}
        self._types: dict[str, pa.DataType] = {}

    def listed(self, source: Source, found: Sequence[Found], returned: Sequence[bool]) -> None:
        """Take files that a source lists.

        Args:
            source: which.
            found: the files, with values in the order of the source's columns.
            returned: whether each was gone before.
        """
        names = list(source.columns)
        self._types |= {name: TYPES[source.columns[name]] for name in names}
        known = self._known.existing([one.path for one in found])
        for one, old, back in zip(found, known, returned, strict=True):
            if self._overlay:
                old = self._overlay.get(one.path, old)
            row = dict(old or {"path": one.path, "source": source.name})
            if back:
                row["source"] = source.name
            row |= dict(zip(names, one.values or (), strict=True))
            if row == old or (old and _equal(row, old)):
                continue
            self.changed += 1
            if self._writer is None:
                continue
            self._rows[one.path] = row
            if self._overlay is not None:
                self._overlay[one.path] = row
        if len(self._rows) >= _ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what is in hand."""
        if not self._rows or self._writer is None:
            return
        rows = list(self._rows.values())
        names = {name for row in rows for name in row} - {"path", "source"}
        types = {name: self._types.get(name) or self._known.type_of(name) for name in names}
        fields = [("path", pa.string()), ("source", pa.string()), *sorted(types.items())]
        self._writer.put_listings(pa.Table.from_pylist(rows, schema=pa.schema(fields)))
        self._rows.clear()


def _equal(row: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether two rows say the same; a column that one lacks is empty."""
    return all(_same(row.get(name), old.get(name)) for name in row.keys() | old.keys())


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, float) and isinstance(second, float) and first != first:
        return second != second
    if isinstance(first, date) and isinstance(second, date):
        return isinstance(first, datetime) == isinstance(second, datetime) and first == second
    return bool(first == second)
