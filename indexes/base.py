"""The interface every vector index serves, and the exact answer it is held against."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from indexes.vectors import Vectors


class Index(Protocol):
    """Nearest neighbours by cosine among a fixed set of unit vectors."""

    def search(self, queries: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
        """The ``k`` nearest rows of each query, best first.

        Args:
            queries: float32 [n, dim], unit rows.
            k: how many; fewer come back when the index holds fewer.

        Returns:
            Row numbers int64 [n, min(k, size)] and cosines float32 of the same shape.
        """
        ...


class ExactIndex:
    """Compares every query with every vector. Equal scores come in row order."""

    #: Queries handled at once, so that memory stays bounded at 256 x size scores.
    BLOCK = 256

    def __init__(self, vectors: Vectors):
        """Args: vectors: float32 [size, dim], unit rows."""
        self._vectors = vectors

    def search(self, queries: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
        """See :meth:`Index.search`."""
        size = len(self._vectors)
        k = min(k, size)
        rows = np.empty((len(queries), k), dtype=np.int64)
        scores = np.empty((len(queries), k), dtype=np.float32)
        for start in range(0, len(queries), self.BLOCK):
            part = slice(start, start + self.BLOCK)
            cosines = queries[part] @ self._vectors.T
            rows[part] = _best(cosines, k)
            scores[part] = np.take_along_axis(cosines, rows[part], axis=1)
        return rows, scores


def _best(scores: Vectors, k: int) -> NDArray[np.int64]:
    """Row numbers of the ``k`` highest scores of each line, ties by lower row number."""
    size = scores.shape[1]
    if k == 0:
        return np.empty((len(scores), 0), dtype=np.int64)
    if k * 4 > size:
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]
    # The k-th best value decides which ties are in; all rows at or above it are then sorted.
    limit = np.partition(scores, size - k, axis=1)[:, size - k]
    best = np.empty((len(scores), k), dtype=np.int64)
    for line, (row, least) in enumerate(zip(scores, limit, strict=True)):
        candidates = np.flatnonzero(row >= least)
        order = np.argsort(-row[candidates], kind="stable")[:k]
        best[line] = candidates[order]
    return best
