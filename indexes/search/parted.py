"""Rows of several parts: a picture and its regions, compared by the best of them.

A row holds ``parts`` vectors of unit length one after the other, each divided by the root of their
number, so that the row has unit length too. A query is compared by its first part alone (the
picture as a whole, or a text's vector), with each part of a row, and the greatest of these cosines
is the score. It is not symmetric: what is looked for as a whole may be found in a region.

A part of a query is placed where one part of a row is, with zeros elsewhere, so that one product
with the stored rows gives the cosines with that part. Every row is looked at: no index serves this.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.search.base import best, query_blocks
from indexes.search.open_table import OpenTable
from indexes.search.row_cache import sample_rows
from indexes.store.records import VectorTable
from indexes.vectors import Vectors


def parts_of(table: VectorTable) -> int:
    """How many vectors a row of a table holds."""
    settings = table.made_by.get("settings") or {}
    return int(settings.get("parts", 1))


def served_by(table: VectorTable, kind: str) -> str:
    """The kind of index that can be built for a table, when one is asked for.

    Raises:
        UsageError: if its rows are of several parts, and another kind than ``exact`` is wanted.
    """
    if parts_of(table) == 1:
        return kind
    if kind not in ("auto", "exact"):
        raise UsageError(
            f"The rows of '{table.name}' are compared by the best of their parts, which no index "
            "serves; choose --kind exact."
        )
    return "exact"


class PartedTable(OpenTable):
    """A condition's rows of several parts; see the module for the score."""

    @cached_property
    def _parts(self) -> int:
        return parts_of(self.table)

    def _placed(self, queries: Vectors) -> Vectors:
        """Each query's first part in place of each part in turn: float32 [parts * n, dim]."""
        count, dimension = queries.shape
        own = dimension // self._parts
        # A row's part has the length 1 / sqrt(parts), a query's here sqrt(parts).
        first = queries[:, :own]
        first = first / np.linalg.norm(first, axis=1, keepdims=True) * np.sqrt(self._parts)
        placed = np.zeros((self._parts, count, self._parts, own), dtype=np.float32)
        for part in range(self._parts):
            placed[part, :, part] = first
        return placed.reshape(self._parts * count, dimension)

    def scores(self, queries: Vectors) -> Vectors:
        """The best cosine of each query with a part of every row, exact: float32 [n, size]."""
        cosines = super().scores(self._placed(queries))
        return np.asarray(
            cosines.reshape(self._parts, len(queries), -1).max(axis=0), dtype=np.float32
        )

    def search(
        self, queries: Vectors, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], Vectors]:
        """See :meth:`OpenTable.search`; every row is compared."""
        among = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
        k = min(k, len(among))
        rows = np.empty((len(queries), k), dtype=np.int64)
        scores = np.empty((len(queries), k), dtype=np.float32)
        for block in query_blocks(len(queries), len(self) * self._parts):
            at, scores[block] = best(self.scores(queries[block])[:, among], k)
            rows[block] = among[at]
        return rows, scores

    @cached_property
    def _likenesses(self) -> NDArray[np.float32]:
        """Scores of the pairs among a sample, either one asked with: float32, ascending."""
        vectors = self.vectors(sample_rows(len(self)))
        placed = self._placed(vectors)
        scores = (placed @ vectors.T).reshape(self._parts, len(vectors), -1).max(axis=0)
        return np.sort(scores[~np.eye(len(vectors), dtype=bool)])

    def percentiles(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Share of the gallery's pairs that are less alike than these scores, in percent."""
        pairs = self._likenesses
        if not len(pairs):
            return np.zeros(np.shape(scores))
        return 100.0 * np.searchsorted(pairs, scores, side="left") / len(pairs)
