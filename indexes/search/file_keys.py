"""The keys of the pictures that have a file, in one state of the record of files."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from indexes.search.compact_columns import KEY_BYTES, positions, prefixes, raw_keys
from indexes.store.frozen import ReadRows
from indexes.store.tables import Table


class FileKeys:
    """The keys of the pictures that have a file, in one state of the record of files.

    Attributes:
        state: identifies the state.
        gone: whether files that were missing at the last scan count as well.
    """

    def __init__(self, files: Table, gone: bool = False, before: FileKeys | None = None):
        """Store the arguments; nothing is read yet.

        Args:
            files: the frozen table.
            gone: see above.
            before: an earlier state with the same ``gone``; then only what changed is read.
        """
        self.state = files.state
        self.gone = gone
        self._files = files
        # An earlier state that was never read has nothing to start from, but its own may.
        unread = before is not None and before._read is None
        self._before: FileKeys | None = before._before if before and unread else before
        self._read: ReadRows | None = None
        self._raw = np.empty((0, KEY_BYTES), dtype=np.uint8)
        #: Shared by states of which each has all keys of the one before.
        self._growth = object()

    def _statuses(self) -> pa.Array:
        return pa.array(["done", "gone"] if self.gone else ["done"])

    def included(self, rows: pa.Table) -> pa.Table:
        """The rows of a table with a column ``key`` whose picture has a file."""
        files = self._files.read(["key", "status"])
        files = files.filter(pc.is_in(files.column("status"), self._statuses()))
        return rows.filter(pc.is_in(rows.column("key"), files.column("key").combine_chunks()))

    def has_grown_from(self, before: FileKeys) -> bool:
        """Whether this state has all keys of an earlier one, as far as that is known.

        Raises:
            ValueError: if a key is not a SHA-256.
        """
        self._load()
        return self._growth is before._growth or self.state == before.state

    def contain(self, raw: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which of some keys have a file: bool [n].

        Args:
            raw: uint8 [n, 32].

        Raises:
            ValueError: if a key of the record is not a SHA-256.
        """
        self._load()
        return positions(self._raw, raw) >= 0

    def _load(self) -> None:
        if self._read is not None:
            return
        before, self._before = self._before, None
        if before is not None and before._read is not None:
            new = before._read.since(self._files, ["key", "status"])
            if new is not None:
                self._raw = merged_keys(before._raw, self._keys_of(new[0]))
                self._growth = before._growth
                self._read = new[1]
                return
        rows = self._files.read(["key", "status"], row_ids=True)
        self._raw = self._keys_of(rows)
        self._read = ReadRows.of(rows, self._files)

    def _keys_of(self, rows: pa.Table) -> NDArray[np.uint8]:
        """The distinct keys of rows with a status that counts: uint8 [n, 32], ascending."""
        rows = rows.filter(pc.is_in(rows.column("status"), self._statuses()))
        raw = raw_keys(rows.column("key"))
        raw = raw[np.argsort(prefixes(raw), kind="stable")]
        first = prefixes(raw)
        repeated = np.flatnonzero(first[1:] == first[:-1]) + 1
        if (raw[repeated] != raw[repeated - 1]).any():
            raise ValueError("two keys begin with the same 8 bytes")
        return np.delete(raw, repeated, axis=0)


def merged_keys(raw: NDArray[np.uint8], new: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Sorted keys with others, each once: uint8 [n, 32], ascending.

    Args:
        raw: uint8 [n, 32], ascending.
        new: uint8 [m, 32], ascending, with distinct first 8 bytes.

    Raises:
        ValueError: if two different keys begin with the same 8 bytes.
    """
    new = new[positions(raw, new) < 0]
    merged = np.insert(raw, np.searchsorted(prefixes(raw), prefixes(new)), new, axis=0)
    if (np.diff(prefixes(merged)) == 0).any():
        raise ValueError("two keys begin with the same 8 bytes")
    return merged
