"""A condition's table that is open for search: its vectors, words and index."""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from indexes.search.base import ExactIndex, Index, IndexLost, best, query_blocks
from indexes.search.compact_columns import Keys
from indexes.search.factory import kind_in_memory, make_index
from indexes.search.faiss import candidates_per_hit
from indexes.search.matrix import VectorMatrix
from indexes.search.row_cache import RowCache, pair_scores, sample_rows
from indexes.search.snapshot import Snapshot
from indexes.store.records import VectorColumn, VectorTable
from indexes.vectors import Vectors

#: Candidates of an index that must exist for each hit, or the query is answered exactly: pictures
#: that were deleted since are among the candidates.
_ENOUGH = 5

#: Bytes of the scores of the latest queries that are kept.
_RECENT_BYTES = 32 * 2**20

#: Numbers gathered for one search among selected rows: 256 MB.
_GATHERED = 2**26

#: A query reads all rows in order as fast as a twentieth of them in any order.
_SCATTERED = 20


@dataclass
class SearchRows:
    """The data of an open table.

    Attributes:
        keys: content keys, [n], ascending.
        words: [n].
        word_probabilities: float32 [n].
        matrix: the vectors, in the order in which they are stored.
        order: number in ``matrix`` of each row, int64 [n]; ``None`` if they are in order.
        pairs: cosines of the pairs of a sample, float32, ascending; ``None`` to compute them
            when they are first needed.
        index: over the first ``indexed`` vectors of ``matrix``; ``None`` for exact search.
        indexed: number of vectors in the index.
        kind: name of the index.
        state: identifies the state of the gallery that was read.
        cache: the cached rows at the start of ``matrix``, if there are any.
        snapshot: the state itself, if a later one may be read from it.
        way: identifies how the rows were transformed, and the kind of index that was asked for.
    """

    keys: Sequence[str]
    words: Sequence[str]
    word_probabilities: NDArray[np.float32]
    matrix: VectorMatrix
    order: NDArray[np.int64] | None
    pairs: NDArray[np.float32] | None
    index: Index | None
    indexed: int
    kind: str
    state: str
    cache: RowCache | None = None
    snapshot: Snapshot | None = None
    way: str = ""


def search_rows_in_memory(column: VectorColumn, kind: str = "auto", state: str = "") -> SearchRows:
    """Rows with vectors in memory.

    Args:
        column: the rows, with vectors as they are compared.
        kind: the kind of index; see :func:`indexes.search.factory.make_index`.
        state: identifies the state of the gallery that was read.

    Raises:
        CiesError: if FAISS is needed and not installed.
        UsageError: if there is no such index.
    """
    count = len(column.keys)
    index: Index | None = make_index(column.vectors, kind)
    if isinstance(index, ExactIndex):
        index = None
    return SearchRows(
        keys=column.keys,
        words=column.words,
        word_probabilities=column.word_probabilities,
        matrix=VectorMatrix(None, column.vectors),
        order=None,
        pairs=None,
        index=index,
        indexed=count if index is not None else 0,
        kind=kind_in_memory(count, kind),
        state=state,
    )


class OpenTable:
    """A condition's rows, numbered from 0 in key order, ready for search.

    The table has one committed state of the gallery; later commits do not change it. Any number
    of threads may use it.

    Attributes:
        table: the condition's entry.
        rows: what it was opened from.
        keys: content keys, [n], ascending.
        words: the model's word for each picture, or empty strings, [n].
        word_probabilities: float32 [n].
        kind: name of the index that answers.
        state: identifies the state of the gallery that was read.
    """

    def __init__(self, table: VectorTable, rows: VectorColumn | SearchRows, index: str = "auto"):
        """Open a table.

        Args:
            table: the condition's entry.
            rows: the rows; or a column in memory, with vectors as they are compared.
            index: the kind of index for a column in memory; see
                :func:`indexes.search.factory.make_index`.

        Raises:
            CiesError: if FAISS is needed and not installed.
            UsageError: if there is no such index.
        """
        if isinstance(rows, VectorColumn):
            rows = search_rows_in_memory(rows, index)
        self.table = table
        self.rows = rows
        self.keys = rows.keys
        self.words = rows.words
        self.word_probabilities = rows.word_probabilities
        self.kind = rows.kind
        self.state = rows.state
        self._matrix = rows.matrix
        self._order = rows.order
        #: The vector of a query, as bytes, to its scores; the latest last.
        self._recent: dict[bytes, Vectors] = {}
        self._recent_lock = threading.Lock()
        self._stored_pairs = rows.pairs
        self._index = rows.index
        self._indexed = rows.indexed

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def column(self) -> VectorColumn:
        """All rows at once, in memory."""
        vectors = self.vectors(np.arange(len(self)))
        return VectorColumn(list(self.keys), vectors, list(self.words), self.word_probabilities)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self.keys)}

    def row(self, key: str) -> int | None:
        """The row of a picture, or ``None`` if it is not embedded under the condition."""
        if not isinstance(self.keys, Keys):
            return self._row_of.get(key)
        at = bisect_left(self.keys, key)
        return at if at < len(self.keys) and self.keys[at] == key else None

    def vectors(self, rows: NDArray[np.int64]) -> Vectors:
        """Vectors of rows: float32 [len(rows), dim], unit rows."""
        rows = np.asarray(rows)
        return self._matrix.rows(rows if self._order is None else self._order[rows])

    def search(
        self, queries: Vectors, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], Vectors]:
        """The ``k`` nearest rows of each query, best first; equal scores in row order.

        Args:
            queries: float32 [n, dim], unit rows.
            k: number of hits; fewer are returned if there are fewer rows.
            allowed: bool [size], the rows that may be found; such a search is exact.

        Returns:
            Rows int64 [n, found] and exact cosines float32 of the same shape.
        """
        if allowed is not None:
            return self._search_among(queries, k, np.flatnonzero(allowed))
        k = min(k, len(self))
        index = self._index
        if index is not None and k:
            try:
                return self._search_index(index, queries, k)
            except IndexLost as error:
                # Another process replaced the index; the vectors are still there.
                logging.getLogger("cies").warning("An index is gone, searching exactly: %s", error)
                self._index = None
        return self._search_all(queries, k)

    def _search_all(
        self, queries: Vectors, k: int, among: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], Vectors]:
        rows = np.empty((len(queries), k), dtype=np.int64)
        scores = np.empty((len(queries), k), dtype=np.float32)
        for part in query_blocks(len(queries), len(self)):
            cosines = self.scores(queries[part])
            if among is not None:
                cosines = cosines[:, among]
            rows[part], scores[part] = best(cosines, k)
        return rows if among is None else among[rows], scores

    def _search_among(
        self, queries: Vectors, k: int, among: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], Vectors]:
        k = min(k, len(among))
        few = len(among) * _SCATTERED <= len(self) * len(queries)
        if not few or len(among) * self._matrix.dimension > _GATHERED:
            return self._search_all(queries, k, among)
        rows, scores = ExactIndex(self.vectors(among)).search(queries, k)
        return among[rows], scores

    def _search_index(
        self, index: Index, queries: Vectors, k: int
    ) -> tuple[NDArray[np.int64], Vectors]:
        candidates = min(k * candidates_per_hit(self._indexed), self._indexed)
        found, _ = index.search(queries, candidates)
        rows = np.where(found >= 0, found, 0) if self._order is None else self._row_at[found]
        rows = np.where(found >= 0, rows, -1)
        vectors_at = np.where(rows >= 0, found, 0)
        scores = self._matrix.scores_of(queries, vectors_at)
        scores[rows < 0] = -np.inf
        others = self._not_indexed
        if len(others):
            nearest, cosines = self._others.search(queries, k)
            rows = np.concatenate([rows, others[nearest]], axis=1)
            scores = np.concatenate([scores, cosines], axis=1)
        order = np.lexsort((rows, -scores), axis=1)[:, :k]
        rows = np.take_along_axis(rows, order, axis=1)
        scores = np.take_along_axis(scores, order, axis=1)
        enough = min(k * _ENOUGH, len(self) - len(others))
        short = np.flatnonzero((found >= 0).sum(axis=1) - self._deleted(found) < enough)
        if len(short):
            rows[short], scores[short] = self._search_all(queries[short], k)
        return rows, scores

    def _deleted(self, found: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of candidates of each query whose picture was deleted: int64 [n]."""
        if self._order is None:
            return np.zeros(len(found), dtype=np.int64)
        deleted: NDArray[np.int64] = ((found >= 0) & (self._row_at[found] < 0)).sum(axis=1)
        return deleted

    @cached_property
    def _row_at(self) -> NDArray[np.int64]:
        """The row of each vector of the matrix: int64, -1 for vectors of deleted rows."""
        assert self._order is not None
        rows = np.full(len(self._matrix), -1, dtype=np.int64)
        rows[self._order] = np.arange(len(self._order))
        return rows

    @cached_property
    def _not_indexed(self) -> NDArray[np.int64]:
        """Rows that were added after the index was built: int64, ascending."""
        if self._order is None:
            return np.arange(self._indexed, len(self))
        return np.flatnonzero(self._order >= self._indexed)

    @cached_property
    def _others(self) -> ExactIndex:
        """The rows that were added after the index was built."""
        return ExactIndex(self.vectors(self._not_indexed))

    def scores(self, queries: Vectors) -> Vectors:
        """Cosines with every row, exact: float32 [n, size]; not to be changed.

        Those of the latest single queries are kept, for the same query with other weights.
        """
        if len(queries) != 1:
            return self._compared(queries)
        name = queries.tobytes()
        with self._recent_lock:
            found = self._recent.pop(name, None)
        if found is None:
            found = self._compared(queries)
            found.flags.writeable = False
        with self._recent_lock:
            self._recent[name] = found
            while len(self._recent) * found.nbytes > _RECENT_BYTES and len(self._recent) > 1:
                del self._recent[next(iter(self._recent))]
        return found

    def _compared(self, queries: Vectors) -> Vectors:
        scores = self._matrix.scores(queries)
        return scores if self._order is None else scores[:, self._order]

    @cached_property
    def _pairs(self) -> NDArray[np.float32]:
        if self._stored_pairs is not None:
            return self._stored_pairs
        return pair_scores(self.vectors(sample_rows(len(self))))

    def percentiles(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Share of the gallery's pairs with lower scores than these, 0 to 100, in their shape."""
        if not len(self._pairs):
            return np.zeros(np.shape(scores))
        # Values of another type would make NumPy convert all pairs.
        values = np.asarray(scores, dtype=self._pairs.dtype)
        return 100.0 * np.searchsorted(self._pairs, values, side="left") / len(self._pairs)
