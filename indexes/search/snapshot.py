"""What a condition's table holds at one moment, of the pictures that shall be found."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from indexes.search.compact_columns import Words, prefixes, raw_keys
from indexes.store.columns import damaged_vectors, vector_column
from indexes.store.gallery import Gallery
from indexes.store.records import VectorColumn, VectorTable
from indexes.vectors import unit

#: Rows read at once.
_ROWS = 8192

#: Rows fetched by number at once.
_SOME = 4096


@dataclass(frozen=True)
class Digest:
    """The pictures of a table, in key order, and what tells whether a row is still the same.

    Attributes:
        keys: uint8 [n, 32], ascending; their first 8 bytes differ from one another.
        sums: uint32 [n], the rows' checksums over vector, key, word and probability.
        numbers: uint64 [n], by which Lance finds the rows.
    """

    keys: NDArray[np.uint8]
    sums: NDArray[np.uint32]
    numbers: NDArray[np.uint64]


@dataclass(frozen=True)
class Part:
    """Some rows as they are stored.

    Attributes:
        keys: uint8 [n, 32].
        halves: float16 [n, dim].
        words: [n].
        probabilities: float32 [n].
        sums: uint32 [n].
    """

    keys: NDArray[np.uint8]
    halves: NDArray[np.float16]
    words: Words
    probabilities: NDArray[np.float32]
    sums: NDArray[np.uint32]


class Snapshot:
    """One committed state of a condition's table, whatever is written meanwhile.

    The record of files is read first. A writer commits vectors before files, so that every
    picture which the record names is in the table.
    """

    def __init__(self, gallery: Gallery, table: VectorTable, gone: bool = False):
        """Take hold of the newest state.

        Args:
            gallery: whose table it is.
            table: the condition's entry.
            gone: whether pictures count of which no file was left at the last scan.

        Raises:
            GalleryError: if a table cannot be read.
        """
        self.table = table
        self._place = gallery.path
        self._files, files = gallery.frozen("files")
        self._rows, rows = gallery.frozen(table.table)
        self._gone = gone
        #: Names the state: equal for equal content.
        self.state = hashlib.sha256(f"{files} {rows} {gone}".encode()).hexdigest()[:24]

    def __len__(self) -> int:
        """Rows of the table, those included that shall not be found."""
        return len(self._rows)

    def digest(self) -> Digest:
        """The pictures that shall be found.

        Raises:
            ValueError: if a key is no SHA-256, or two of them begin with the same 8 bytes.
            GalleryError: if a table cannot be read.
        """
        rows = self._to_be_found(self._rows.read(["key", "checksum"], row_ids=True))
        raw = raw_keys(rows.column("key"))
        order = np.argsort(prefixes(raw))
        raw = raw[order]
        if (np.diff(prefixes(raw)) == 0).any():
            raise ValueError("keys that begin alike")
        sums = rows.column("checksum").fill_null(0).to_numpy().astype(np.uint32)
        return Digest(raw, sums[order], rows.column("_rowid").to_numpy()[order])

    def _to_be_found(self, rows: pa.Table) -> pa.Table:
        files = self._files.read(["key", "status"])
        wanted = ["done", "gone"] if self._gone else ["done"]
        there = files.filter(pc.is_in(files.column("status"), pa.array(wanted)))
        return rows.filter(pc.is_in(rows.column("key"), there.column("key").combine_chunks()))

    def column(self) -> VectorColumn:
        """The pictures that shall be found, all at once, as they are stored.

        Raises:
            GalleryError: if the table cannot be read, or a vector is damaged.
        """
        return vector_column(self._to_be_found(self._rows.read()), self.table, self._place)

    def parts(self) -> Iterator[Part]:
        """All rows some thousands at a time, in no order, those included that shall not be found.

        Raises:
            GalleryError: if the table cannot be read.
        """
        names = ["key", "vector", "word", "word_probability", "checksum"]
        for batch in self._rows.batches(names, _ROWS):
            if batch.num_rows:
                yield self._part(pa.Table.from_batches([batch]))

    def some(self, numbers: NDArray[np.uint64]) -> Iterator[Part]:
        """The rows of a digest's numbers, some thousands at a time, in no order.

        Raises:
            GalleryError: if the table cannot be read.
        """
        names = ["key", "vector", "word", "word_probability", "checksum"]
        for start in range(0, len(numbers), _SOME):
            yield self._part(self._rows.take(numbers[start : start + _SOME].tolist(), names))

    def _part(self, rows: pa.Table) -> Part:
        vectors = rows.column("vector").combine_chunks()
        if isinstance(vectors, pa.ChunkedArray):
            vectors = pa.concat_arrays(vectors.chunks)
        flat = np.asarray(vectors.flatten().to_numpy(zero_copy_only=False), dtype=np.float16)
        return Part(
            raw_keys(rows.column("key")),
            flat.reshape(rows.num_rows, self.table.dimension),
            Words.of(rows.column("word")),
            rows.column("word_probability").to_numpy().astype(np.float32),
            rows.column("checksum").fill_null(0).to_numpy().astype(np.uint32),
        )

    def unit(self, halves: NDArray[np.float16]) -> NDArray[np.float32]:
        """Stored vectors at unit length: float32 [n, dim].

        Raises:
            GalleryError: if one is damaged.
        """
        try:
            return unit(halves.astype(np.float32))
        except ValueError as error:
            raise damaged_vectors(self.table, self._place, error) from error
