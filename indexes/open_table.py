"""One condition's table, open for search: its vectors in a geometry, its words, its index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexes.base import ExactIndex
from indexes.factory import make_index
from indexes.records import VectorColumn, VectorTable
from indexes.vectors import Vectors

#: Pictures drawn to learn how alike the pairs of a gallery are; all their pairs are compared.
_SAMPLE = 1000


class OpenTable:
    """A condition's rows, numbered from 0 in key order, as every search needs them.

    Attributes:
        table: the gallery's entry.
        keys: content keys, [n], in ascending order.
        words: the model's word for each picture, or empty strings, [n].
        word_probabilities: float32 [n].
    """

    def __init__(self, table: VectorTable, column: VectorColumn, index: str = "auto"):
        """Open a table whose vectors are in memory.

        Args:
            table: the gallery's entry.
            column: its rows, their vectors already in the geometry they are compared in.
            index: ``exact``, ``faiss`` or ``auto``.
        """
        self.table = table
        self.keys: Sequence[str] = column.keys
        self.words: Sequence[str] = column.words
        self.word_probabilities = column.word_probabilities
        self._column = column
        self._rows = {key: row for row, key in enumerate(column.keys)}
        self._index = make_index(column.vectors, index)
        self._pairs = _pair_scores(column.vectors)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def column(self) -> VectorColumn:
        """All rows at once, in memory."""
        return self._column

    def row(self, key: str) -> int | None:
        """The row of a picture, or ``None`` if it is not embedded under the condition."""
        return self._rows.get(key)

    def vectors(self, rows: NDArray[np.int64]) -> Vectors:
        """Vectors of some rows: float32 [len(rows), dim], unit rows."""
        found: Vectors = self._column.vectors[rows]
        return found

    def search(
        self, queries: Vectors, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], Vectors]:
        """The ``k`` nearest rows of each query, best first.

        Args:
            queries: float32 [n, dim], unit rows.
            k: how many; fewer come back when there are fewer.
            allowed: bool [size], the rows that may be found; a search among some is exact.

        Returns:
            Rows int64 [n, found] and cosines float32 of the same shape.
        """
        if allowed is None:
            return self._index.search(queries, k)
        among = np.flatnonzero(allowed)
        rows, scores = ExactIndex(self._column.vectors[among]).search(queries, k)
        return among[rows], scores

    def scores(self, queries: Vectors) -> Vectors:
        """Cosines with every row, exact: float32 [n, size]."""
        return queries @ self._column.vectors.T

    def percentiles(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Share of the gallery's pairs that are less alike than these scores, in percent."""
        if not len(self._pairs):
            return np.zeros(np.shape(scores))
        return 100.0 * np.searchsorted(self._pairs, scores, side="left") / len(self._pairs)


def _pair_scores(vectors: Vectors) -> NDArray[np.float32]:
    """Sorted cosines of the pairs among a sample of the gallery: float32 [pairs]."""
    count = len(vectors)
    if count > _SAMPLE:
        chosen = np.random.default_rng(0).choice(count, _SAMPLE, replace=False)
        vectors = vectors[np.sort(chosen)]
        count = _SAMPLE
    cosines = vectors @ vectors.T
    return np.sort(cosines[np.triu_indices(count, 1)])
