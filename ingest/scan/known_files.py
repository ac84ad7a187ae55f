"""What a gallery knows of files and pictures, in memory, at few bytes a row.

A gallery of two million pictures is looked up by path and by key for every file of a scan, so
neither may be a dictionary of Python strings and records.
"""

from __future__ import annotations

from typing import Any, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from indexes.store.records import FileRecord, file_records

#: Rows turned into Python objects at once.
_ROWS = 65_536

Rows = NDArray[np.int64]


class PathIndex:
    """Finds the row of a path: 16 bytes a row, however long the paths are."""

    def __init__(self, paths: pa.ChunkedArray):
        self._paths = paths.cast(pa.large_string()).combine_chunks()
        hashes = np.empty(len(self._paths), dtype=np.int64)
        for start in range(0, len(hashes), _ROWS):
            texts = self._paths.slice(start, _ROWS).to_pylist()
            hashes[start : start + len(texts)] = [hash(text) for text in texts]
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def __len__(self) -> int:
        return len(self._hashes)

    def rows(self, paths: Sequence[str]) -> Rows:
        """The row of each path, -1 where it is not known: int64 [n]."""
        found = np.full(len(paths), -1, dtype=np.int64)
        if not len(self):
            return found
        wanted = np.fromiter((hash(path) for path in paths), np.int64, len(paths))
        places = np.searchsorted(self._hashes, wanted, side="left")
        open_ = np.arange(len(paths))
        while len(open_):
            # Equal hashes stand together; one step along them for all that are not settled yet.
            inside = places[open_] < len(self)
            open_ = open_[inside]
            open_ = open_[self._hashes[places[open_]] == wanted[open_]]
            rows = self._order[places[open_]]
            texts = self._paths.take(pa.array(rows)).to_pylist()
            same = np.fromiter(
                (text == paths[n] for text, n in zip(texts, open_, strict=True)), bool, len(open_)
            )
            found[open_[same]] = rows[same]
            open_ = open_[~same]
            places[open_] += 1
        return found


class KnownFiles:
    """The ``files`` table of a gallery.

    Attributes:
        done: bool [n], whether the file was taken in.
        gone: bool [n], whether it was not there at the last scan.
        sizes: int64 [n], bytes.
        mtimes: int64 [n], nanoseconds.
    """

    def __init__(self, table: pa.Table):
        """Take over the table as :meth:`indexes.store.gallery.Gallery.read` gives it."""
        self._table = table.combine_chunks()
        self._index = PathIndex(table.column("path"))
        self.done = _array(pc.equal(table.column("status"), "done"), bool)
        self.gone = _array(pc.equal(table.column("status"), "gone"), bool)
        self.sizes = _array(table.column("size"), np.int64)
        self.mtimes = _array(table.column("mtime_ns"), np.int64)

    def __len__(self) -> int:
        return len(self._index)

    def rows(self, paths: Sequence[str]) -> Rows:
        """See :meth:`PathIndex.rows`."""
        return self._index.rows(paths)

    def keys(self, rows: Rows) -> list[str]:
        """Content keys of rows."""
        return _strings(self._table.column("key"), rows)

    def paths(self, rows: Rows) -> list[str]:
        """Stored paths of rows."""
        return _strings(self._table.column("path"), rows)

    def records(self, rows: Rows) -> list[FileRecord]:
        """Rows as records, in the order of their paths."""
        return file_records(self._table.take(pa.array(rows)))

    def paths_in_chunks(self, rows: Rows) -> Iterable[tuple[Rows, list[str]]]:
        """Rows and their paths, some at a time."""
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            yield some, self.paths(some)


class KnownListings:
    """The ``listings`` table of a gallery: who lists a file, and with which columns."""

    def __init__(self, table: pa.Table):
        self._table = table.combine_chunks()
        self._index = PathIndex(table.column("path"))
        self.names = [name for name in table.column_names if name not in ("path", "source")]

    def __len__(self) -> int:
        return len(self._index)

    def existing(self, paths: Sequence[str]) -> list[dict[str, Any] | None]:
        """The row of each path, ``None`` where there is none."""
        rows = self._index.rows(paths)
        known = np.flatnonzero(rows >= 0)
        found: list[dict[str, Any] | None] = [None] * len(paths)
        taken = self._table.take(pa.array(rows[known])).to_pylist()
        for place, row in zip(known, taken, strict=True):
            found[place] = row
        return found

    def type_of(self, name: str) -> pa.DataType:
        """The type of a column there is."""
        return self._table.schema.field(name).type

    def listed_by(self, source: str) -> list[str]:
        """The paths that a source lists."""
        own = self._table.filter(pc.equal(self._table.column("source"), source))
        paths: list[str] = own.column("path").to_pylist()
        return paths


class KnownKeys:
    """Which pictures are embedded under which conditions: one entry a picture."""

    def __init__(self, tables: Iterable[pa.ChunkedArray]):
        """Take over what is there.

        Args:
            tables: the keys of each condition's table, in the order of the conditions.
        """
        self._mask: dict[bytes, int] = {}
        self._numbers: dict[int, tuple[int, ...]] = {}
        self._count = 0
        for keys in tables:
            for chunk in keys.chunks:
                for start in range(0, len(chunk), _ROWS):
                    self.add(self._count, chunk.slice(start, _ROWS).to_pylist())
            self._count += 1

    def add(self, number: int, keys: Iterable[str]) -> None:
        """Note pictures that are embedded under a condition now."""
        bit, mask = 1 << number, self._mask
        for key in keys:
            short = bytes.fromhex(key[:32])
            mask[short] = mask.get(short, 0) | bit

    def missing(self, key: str) -> tuple[int, ...]:
        """Numbers of the conditions that a picture is not embedded under."""
        mask = self._mask.get(bytes.fromhex(key[:32]), 0)
        if mask not in self._numbers:
            open_ = tuple(n for n in range(self._count) if not mask >> n & 1)
            self._numbers[mask] = open_
        return self._numbers[mask]

    def count_new(self, keys: Iterable[str]) -> int:
        """How many of these were not counted before; from now on they are."""
        # The bit after those of the conditions, so that it takes no memory of its own.
        bit, mask, count = 1 << self._count, self._mask, 0
        for key in keys:
            short = bytes.fromhex(key[:32])
            before = mask.get(short, 0)
            count += not before & bit
            mask[short] = before | bit
        return count

    def known(self, key: str) -> bool:
        """Whether a picture is embedded under any condition."""
        return bytes.fromhex(key[:32]) in self._mask


def _array(column: pa.ChunkedArray, kind: Any) -> NDArray[Any]:
    return np.asarray(column.to_numpy(), dtype=kind)


def _strings(column: pa.ChunkedArray, rows: Rows) -> list[str]:
    texts: list[str] = column.take(pa.array(rows)).to_pylist()
    return texts
