"""The interface every vector index serves, and the exact answer it is held against."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from indexes.vectors import Vectors


class IndexLost(Exception):
    """An index that reads its files while it searches has lost them."""


class Index(Protocol):
    """Nearest neighbours by cosine among a fixed set of unit vectors."""

    def search(self, queries: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
        """The ``k`` nearest rows of each query, best first.

        Args:
            queries: float32 [n, dim], unit rows.
            k: how many; fewer come back when the index holds fewer.

        Returns:
            Row numbers int64 [n, min(k, size)], -1 where an index that does not look at every
            vector found fewer, and its scores, float32 of the same shape: cosines, or what the
            index has for them.

        Raises:
            IndexLost: if its files are gone.
        """
        ...


class ExactIndex:
    """Compares every query with every vector. Equal scores come in row order."""

    #: Scores held at once: 128 MB.
    SCORES = 2**25

    def __init__(self, vectors: Vectors):
        """Args: vectors: float32 [size, dim], unit rows."""
        self._vectors = vectors

    def search(self, queries: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
        """See :meth:`Index.search`."""
        size = len(self._vectors)
        k = min(k, size)
        rows = np.empty((len(queries), k), dtype=np.int64)
        scores = np.empty((len(queries), k), dtype=np.float32)
        for part in query_blocks(len(queries), size):
            cosines = queries[part] @ self._vectors.T
            rows[part], scores[part] = best(cosines, k)
        return rows, scores


def query_blocks(queries: int, size: int) -> list[slice]:
    """Queries in pieces whose scores with ``size`` vectors fit in memory."""
    step = max(1, ExactIndex.SCORES // max(1, size))
    return [slice(start, start + step) for start in range(0, queries, step)]


def best(scores: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
    """The ``k`` highest scores of each line, ties by lower row number.

    Args:
        scores: float32 [n, size].
        k: at most ``size``.

    Returns:
        Row numbers int64 [n, k], and their scores.
    """
    rows = _best(scores, k)
    return rows, np.take_along_axis(scores, rows, axis=1)


def _best(scores: Vectors, k: int) -> NDArray[np.int64]:
    size = scores.shape[1]
    if k == 0:
        return np.empty((len(scores), 0), dtype=np.int64)
    if k * 4 > size:
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]
    # The k-th best value decides which ties are in; all rows at or above it are then sorted.
    chosen = np.empty((len(scores), k), dtype=np.int64)
    for line, row in enumerate(scores):
        least = np.partition(row, size - k)[size - k]
        candidates = np.flatnonzero(row >= least)
        order = np.argsort(-row[candidates], kind="stable")[:k]
        chosen[line] = candidates[order]
    return chosen
