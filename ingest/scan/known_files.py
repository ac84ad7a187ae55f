"""Known files and pictures of a gallery in memory, with few bytes for each row.

Every file of a scan is looked up by path and by key, in galleries of millions of pictures, so
neither lookup may be a dictionary of Python strings and records.
"""

from __future__ import annotations

from typing import Any, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from indexes.store.records import FileRecord, file_records

#: Rows converted to Python objects at once.
_ROWS = 65_536

#: int64 [n], rows of a table.
RowNumbers = NDArray[np.int64]


class PathIndex:
    """Finds the row of a path; takes 16 bytes a row besides the paths, however long they are."""

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

    def rows(self, paths: Sequence[str]) -> RowNumbers:
        """The row of each path, -1 if the path is not known: int64 [n]."""
        found = np.full(len(paths), -1, dtype=np.int64)
        if not len(self):
            return found
        wanted = np.fromiter((hash(path) for path in paths), np.int64, len(paths))
        positions = np.searchsorted(self._hashes, wanted, side="left")
        pending = np.arange(len(paths))
        while len(pending):
            # Equal hashes are adjacent: advance by one for all paths that are not found yet.
            pending = pending[positions[pending] < len(self)]
            pending = pending[self._hashes[positions[pending]] == wanted[pending]]
            rows = self._order[positions[pending]]
            texts = self._paths.take(pa.array(rows)).to_pylist()
            equal = [text == paths[n] for text, n in zip(texts, pending, strict=True)]
            same = np.array(equal, dtype=bool)
            found[pending[same]] = rows[same]
            pending = pending[~same]
            positions[pending] += 1
        return found


class KnownFiles:
    """The ``files`` table of a gallery.

    Attributes:
        done: bool [n], whether the file's picture is in the gallery.
        gone: bool [n], whether the file did not exist at the last scan.
        sizes: int64 [n], bytes.
        mtimes: int64 [n], nanoseconds.
    """

    def __init__(self, table: pa.Table):
        """Index the table that :meth:`indexes.store.gallery.Gallery.read` returns."""
        self._table = table.combine_chunks()
        self._index = PathIndex(table.column("path"))
        self.done = _array(pc.equal(table.column("status"), "done"), bool)
        self.gone = _array(pc.equal(table.column("status"), "gone"), bool)
        self.sizes = _array(table.column("size"), np.int64)
        self.mtimes = _array(table.column("mtime_ns"), np.int64)

    def __len__(self) -> int:
        return len(self._index)

    def rows(self, paths: Sequence[str]) -> RowNumbers:
        """See :meth:`PathIndex.rows`."""
        return self._index.rows(paths)

    def keys(self, rows: RowNumbers) -> list[str]:
        """The content keys of rows, int64 [n]."""
        return _strings(self._table.column("key"), rows)

    def paths(self, rows: RowNumbers) -> list[str]:
        """The stored paths of rows, int64 [n]."""
        return _strings(self._table.column("path"), rows)

    def records(self, rows: RowNumbers) -> list[FileRecord]:
        """The records of rows, int64 [n], in the order of their paths."""
        return file_records(self._table.take(pa.array(rows)))

    def paths_in_chunks(self, rows: RowNumbers) -> Iterable[tuple[RowNumbers, list[str]]]:
        """Rows int64 [n] and their paths, in chunks."""
        for start in range(0, len(rows), _ROWS):
            chunk = rows[start : start + _ROWS]
            yield chunk, self.paths(chunk)


class KnownListings:
    """The ``listings`` table of a gallery: the source that names a file, and the user's columns."""

    def __init__(self, table: pa.Table):
        self._table = table.combine_chunks()
        self._index = PathIndex(table.column("path"))

    def __len__(self) -> int:
        return len(self._index)

    def existing(self, paths: Sequence[str]) -> list[dict[str, Any] | None]:
        """The row of each path, ``None`` if there is none."""
        rows = self._index.rows(paths)
        known = np.flatnonzero(rows >= 0)
        found: list[dict[str, Any] | None] = [None] * len(paths)
        values = self._table.take(pa.array(rows[known])).to_pylist()
        for position, row in zip(known, values, strict=True):
            found[position] = row
        return found

    def type_of(self, name: str) -> pa.DataType:
        """The type of an existing column."""
        return self._table.schema.field(name).type

    def listed_by(self, source: str) -> list[str]:
        """The paths that a source names."""
        listed = self._table.filter(pc.equal(self._table.column("source"), source))
        paths: list[str] = listed.column("path").to_pylist()
        return paths


class KnownKeys:
    """Which pictures are embedded under which conditions: one bit mask for each picture."""

    def __init__(self, tables: Iterable[pa.ChunkedArray]):
        """Add the stored keys.

        Args:
            tables: the keys of each condition's table, in the order of the conditions.
        """
        self._masks: dict[bytes, int] = {}
        self._numbers: dict[int, tuple[int, ...]] = {}
        self._count = 0
        for keys in tables:
            for chunk in keys.chunks:
                for start in range(0, len(chunk), _ROWS):
                    self.add(self._count, chunk.slice(start, _ROWS).to_pylist())
            self._count += 1

    def add(self, number: int, keys: Iterable[str]) -> None:
        """Record that pictures are embedded under the condition with this number."""
        bit, masks = 1 << number, self._masks
        for key in keys:
            short = short_key(key)
            masks[short] = masks.get(short, 0) | bit

    def missing(self, key: str) -> tuple[int, ...]:
        """Numbers of the conditions that a picture is not embedded under."""
        mask = self._masks.get(short_key(key), 0)
        if mask not in self._numbers:
            self._numbers[mask] = tuple(n for n in range(self._count) if not mask >> n & 1)
        return self._numbers[mask]

    def count_new(self, keys: Iterable[str]) -> int:
        """How many of these pictures no earlier call of this method has counted."""
        # The bit after those of the conditions, so that it takes no additional memory.
        bit, masks, count = 1 << self._count, self._masks, 0
        for key in keys:
            short = short_key(key)
            before = masks.get(short, 0)
            count += not before & bit
            masks[short] = before | bit
        return count

    def known(self, key: str) -> bool:
        """Whether a picture is embedded under any condition."""
        return short_key(key) in self._masks


def short_key(key: str) -> bytes:
    """Half of a content key: 128 bits still identify a picture, in a quarter of the memory."""
    return bytes.fromhex(key[:32])


def _array(column: pa.ChunkedArray, kind: Any) -> NDArray[Any]:
    return np.asarray(column.to_numpy(), dtype=kind)


def _strings(column: pa.ChunkedArray, rows: RowNumbers) -> list[str]:
    texts: list[str] = column.take(pa.array(rows)).to_pylist()
    return texts
