"""The rows of a condition's table in one committed state, and their transformation for search."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexes.search.compact_columns import Words, prefixes, raw_keys
from indexes.search.file_keys import FileKeys
from indexes.store.frozen import ReadRows
from indexes.store.gallery import Gallery
from indexes.store.records import VectorColumn, VectorTable, damaged_vectors_error, vector_column
from indexes.vectors import Vectors, unit

#: Rows read at once.
_ROWS = 8192

#: Rows read by number at once.
_TAKEN = 4096

#: The columns of a condition's table that a search needs.
_COLUMNS = ("key", "vector", "word", "word_probability", "checksum")

#: Transforms stored vectors into the space in which they are compared: content keys [n] and
#: float32 [n, dim] to float32 [n, transformed], unit rows. The dimension may change.
VectorTransform = Callable[[Sequence[str], Vectors], Vectors]

#: Returns a word for each stored vector, float32 [n, dim], and its probability, float32 [n].
WordSource = Callable[[Vectors], tuple[list[str], NDArray[np.float32]]]


@dataclass(frozen=True)
class RowTransform:
    """Transforms stored vectors and words into the form used for search.

    Attributes:
        vectors: transforms vectors.
        dimension: the dimension of the transformed vectors.
        words: returns words that replace the stored ones; ``None`` to use the stored words.
    """

    vectors: VectorTransform
    dimension: int
    words: WordSource | None = None

    def words_of(
        self, stored: Vectors, words: Words, probabilities: NDArray[np.float32]
    ) -> tuple[Words, NDArray[np.float32]]:
        """The words of rows, [n], and their probabilities, float32 [n].

        Args:
            stored: float32 [n, dim], unit rows.
            words: the stored words.
            probabilities: the probabilities of the stored words, float32 [n].
        """
        if self.words is None:
            return words, probabilities
        replaced, chances = self.words(stored)
        return Words.of(pa.chunked_array([pa.array(replaced, pa.string())])), chances


@dataclass(frozen=True)
class RowDigest:
    """The keys of a table in order, with checksums that show which rows have changed.

    Attributes:
        keys: uint8 [n, 32], ascending; their first 8 bytes are distinct.
        checksums: uint32 [n], over vector, key, word and probability of each row.
        row_ids: uint64 [n], Lance's numbers of the rows.
    """

    keys: NDArray[np.uint8]
    checksums: NDArray[np.uint32]
    row_ids: NDArray[np.uint64]


@dataclass(frozen=True)
class StoredRows:
    """Rows as they are stored.

    Attributes:
        keys: uint8 [n, 32].
        halves: vectors, float16 [n, dim].
        words: [n].
        probabilities: the probabilities of the words, float32 [n].
        checksums: uint32 [n].
    """

    keys: NDArray[np.uint8]
    halves: NDArray[np.float16]
    words: Words
    probabilities: NDArray[np.float32]
    checksums: NDArray[np.uint32]

    def select(self, places: NDArray[np.int64]) -> StoredRows:
        """The rows at some positions, int64 [n]."""
        return StoredRows(
            self.keys[places],
            self.halves[places],
            Words(self.words.codes[places], self.words.dictionary),
            self.probabilities[places],
            self.checksums[places],
        )


class Snapshot:
    """One committed state of a condition's table; later commits do not change it.

    A gallery at one moment has every table in the state of that moment. Of other galleries the
    record of files is frozen first: a writer commits vectors before files, so that every picture
    in the record has a row in the table.
    """

    def __init__(self, gallery: Gallery, table: VectorTable, files: FileKeys):
        """Freeze the present state of a table.

        Args:
            gallery: the gallery of the table.
            table: the condition's entry.
            files: the pictures to include, frozen before.

        Raises:
            GalleryError: if a table cannot be read.
        """
        self.table = table
        self._place = gallery.path
        self._files = files
        self._rows = gallery.frozen(table.table)
        #: How far the table was read, and its rows whose picture had no file.
        self._read: ReadRows | None = None
        self._left_out: pa.Table | None = None
        state = f"{files.state} {self._rows.state} {files.gone}"
        #: Identifies the state: equal for equal content.
        self.state = hashlib.sha256(state.encode()).hexdigest()[:24]

    def __len__(self) -> int:
        """The number of rows of the table, including those of excluded pictures."""
        return len(self._rows)

    def digest(self) -> RowDigest:
        """The included pictures.

        Raises:
            ValueError: if a key is not a SHA-256, or two keys begin with the same 8 bytes.
            GalleryError: if a table cannot be read.
        """
        rows = self._rows.read(["key", "checksum"], row_ids=True)
        self._read = ReadRows.of(rows, self._rows)
        return self._included(rows)

    def added_since(self, before: Snapshot) -> RowDigest | None:
        """The pictures that were not included in an earlier state; only what is new is read.

        Returns:
            ``None`` if pictures were changed or removed, or the earlier state was not read so.

        Raises:
            ValueError: if a key is not a SHA-256, or two keys begin with the same 8 bytes.
            GalleryError: if a table cannot be read.
        """
        if before._read is None or not self._files.has_grown_from(before._files):
            return None
        new = before._read.since(self._rows, ["key", "checksum"])
        if new is None:
            return None
        rows, self._read = new
        if before._left_out is not None:
            rows = pa.concat_tables([before._left_out, rows.select(before._left_out.schema.names)])
        return self._included(rows)

    def _included(self, rows: pa.Table) -> RowDigest:
        """The rows whose picture is included, in key order; the others are kept for later."""
        raw = raw_keys(rows.column("key"))
        included = self._files.contain(raw)
        self._left_out = None if included.all() else rows.filter(pa.array(~included))
        chosen = np.flatnonzero(included)
        chosen = chosen[np.argsort(prefixes(raw[chosen]))]
        raw = raw[chosen]
        if (np.diff(prefixes(raw)) == 0).any():
            raise ValueError("two keys begin with the same 8 bytes")
        checksums = rows.column("checksum").fill_null(0).to_numpy().astype(np.uint32)
        return RowDigest(raw, checksums[chosen], rows.column("_rowid").to_numpy()[chosen])

    def column(self) -> VectorColumn:
        """The stored rows of the included pictures, in key order.

        Raises:
            GalleryError: if the table cannot be read, or a vector is damaged.
        """
        return vector_column(self._files.included(self._rows.read()), self.table, self._place)

    def batches(self) -> Iterator[StoredRows]:
        """All rows in batches, in no order, including those of excluded pictures.

        Raises:
            GalleryError: if the table cannot be read.
        """
        for batch in self._rows.batches(_COLUMNS, _ROWS):
            if batch.num_rows:
                yield self._stored_rows(pa.Table.from_batches([batch]))

    def take(self, row_ids: NDArray[np.uint64]) -> Iterator[StoredRows]:
        """The rows with these row ids of a digest, in batches, in no order.

        Raises:
            GalleryError: if the table cannot be read.
        """
        for start in range(0, len(row_ids), _TAKEN):
            block = row_ids[start : start + _TAKEN].tolist()
            yield self._stored_rows(self._rows.take(block, _COLUMNS))

    def _stored_rows(self, rows: pa.Table) -> StoredRows:
        vectors = rows.column("vector").combine_chunks()
        if isinstance(vectors, pa.ChunkedArray):
            vectors = pa.concat_arrays(vectors.chunks)
        flat = np.asarray(vectors.flatten().to_numpy(zero_copy_only=False), dtype=np.float16)
        return StoredRows(
            raw_keys(rows.column("key")),
            flat.reshape(rows.num_rows, self.table.dimension),
            Words.of(rows.column("word")),
            rows.column("word_probability").to_numpy().astype(np.float32),
            rows.column("checksum").fill_null(0).to_numpy().astype(np.uint32),
        )

    def unit(self, halves: NDArray[np.float16]) -> NDArray[np.float32]:
        """Stored vectors at unit length: float32 [n, dim].

        Raises:
            GalleryError: if a vector is damaged.
        """
        try:
            return unit(halves.astype(np.float32))
        except ValueError as error:
            raise damaged_vectors_error(self.table, self._place, error) from error
