"""Rows of several vectors, such as those of a picture and its regions; the best of them counts.

A row of n parts holds n unit vectors one after another, each divided by the square root of n, so
that the row is a unit vector and is stored and checked like any other. The dot product of two
rows is the mean of the cosines of their parts.

A query is its first part alone (the picture as a whole, or a text), and its score with a row is
the largest cosine with a part of the row. The score is not symmetric: a query picture may match a
region of another picture. Every row is compared; no index supports these rows.
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

#: Numbers of rows in single precision at once.
_BLOCK = 2**24


def joined(vectors: Vectors) -> Vectors:
    """Unit vectors [..., parts, dim] as rows: float32 [..., parts * dim], unit rows."""
    parts = vectors.shape[-2]
    scaled = np.asarray(vectors, dtype=np.float32) / np.float32(np.sqrt(parts))
    return scaled.reshape(*vectors.shape[:-2], parts * vectors.shape[-1])


def split(rows: Vectors | NDArray[np.float16], parts: int) -> Vectors:
    """The inverse of :func:`joined`: float32 [n, parts, dim], unit vectors.

    Args:
        rows: [n, parts * dim].
        parts: vectors in a row.

    Raises:
        ValueError: if the length of the rows is not a multiple of ``parts``.
    """
    if parts < 1 or rows.shape[-1] % parts:
        raise ValueError(f"rows of {rows.shape[-1]} numbers have no {parts} parts")
    scaled = np.asarray(rows, dtype=np.float32) * np.float32(np.sqrt(parts))
    return scaled.reshape(len(rows), parts, -1)


def best_of_parts(
    queries: Vectors, rows: Vectors | NDArray[np.float16], parts: int = 5
) -> NDArray[np.float32]:
    """The cosine of each query with the nearest part of each row.

    Args:
        queries: float32 [q, dim], unit vectors. The query of a row is its first part,
            ``split(rows, parts)[:, 0]``.
        rows: [n, parts * dim], from :func:`joined`.
        parts: vectors in a row.

    Returns:
        float32 [q, n].

    Raises:
        ValueError: if rows do not have ``parts`` parts of the queries' length.
    """
    if rows.shape[-1] != parts * queries.shape[-1]:
        raise ValueError(
            f"rows of {rows.shape[-1]} numbers have no {parts} parts of {queries.shape[-1]}"
        )
    queries = np.asarray(queries, dtype=np.float32)
    scores = np.empty((len(queries), len(rows)), dtype=np.float32)
    step = max(1, _BLOCK // max(1, rows.shape[-1]))
    for start in range(0, len(rows), step):
        block = split(rows[start : start + step], parts)
        cosines = queries @ block.reshape(-1, block.shape[-1]).T
        scores[:, start : start + len(block)] = cosines.reshape(len(queries), -1, parts).max(-1)
    return scores


def similarities(queries: Vectors, rows: Vectors, parts: int = 1) -> NDArray[np.float32]:
    """The scores of queries with rows, both of the same number of parts.

    Args:
        queries: float32 [q, dim], unit rows, of which the first part is the query.
        rows: float32 [n, dim], unit rows.
        parts: vectors in a row.

    Returns:
        float32 [q, n], cosines; with several parts, those of the best part.
    """
    if parts == 1:
        return np.asarray(queries @ rows.T, dtype=np.float32)
    return best_of_parts(split(queries, parts)[:, 0], rows, parts)


def usable_index_kind(table: VectorTable, kind: str) -> str:
    """The kind of index to build for a table when a kind is asked for.

    Raises:
        UsageError: if the rows have several parts, and the kind is not ``auto`` or ``exact``.
    """
    if table.parts_per_row == 1:
        return kind
    if kind not in ("auto", "exact"):
        raise UsageError(
            f"The rows of '{table.name}' are compared by the best of their parts, which no index "
            "serves; choose --kind exact."
        )
    return "exact"


class MultiVectorTable(OpenTable):
    """A condition's rows of several vectors; see the module for the score."""

    @cached_property
    def _parts(self) -> int:
        return self.table.parts_per_row

    def _expanded(self, queries: Vectors) -> Vectors:
        """Each query's first part at the position of each part: float32 [parts * n, dim].

        With zeros at the other positions, the product with a stored row is the cosine with one of
        its parts.
        """
        count, dimension = queries.shape
        part_dimension = dimension // self._parts
        # A row's part has length 1 / sqrt(parts), so that the query gets length sqrt(parts).
        first = queries[:, :part_dimension]
        first = first / np.linalg.norm(first, axis=1, keepdims=True) * np.sqrt(self._parts)
        expanded = np.zeros((self._parts, count, self._parts, part_dimension), dtype=np.float32)
        for part in range(self._parts):
            expanded[part, :, part] = first
        return expanded.reshape(self._parts * count, dimension)

    def scores(self, queries: Vectors) -> Vectors:
        """The best cosine of each query with a part of every row, exact: float32 [n, size]."""
        cosines = super().scores(self._expanded(queries))
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
            columns, scores[block] = best(self.scores(queries[block])[:, among], k)
            rows[block] = among[columns]
        return rows, scores

    @cached_property
    def _pairs(self) -> NDArray[np.float32]:
        """Scores of the pairs of a sample, with either one as the query: float32, ascending."""
        vectors = self.vectors(sample_rows(len(self)))
        scores = (self._expanded(vectors) @ vectors.T).reshape(self._parts, len(vectors), -1)
        return np.sort(scores.max(axis=0)[~np.eye(len(vectors), dtype=bool)])
