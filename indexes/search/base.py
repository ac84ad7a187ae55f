"""The interfaces of vector indexes and of the kinds of index, and exact search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from indexes.vectors import Vectors

#: Returns vectors by number: int64 [n] to float32 [n, dim], unit rows.
VectorReader = Callable[[NDArray[np.int64]], Vectors]


class IndexLost(Exception):
    """The files of an index that reads them during a search were deleted."""


class Index(Protocol):
    """Nearest neighbours by cosine among a fixed set of unit vectors."""

    def search(self, queries: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
        """The ``k`` nearest rows of each query, best first.

        Args:
            queries: float32 [n, dim], unit rows.
            k: number of rows; fewer are returned if the index has fewer.

        Returns:
            Row numbers int64 [n, min(k, size)], with -1 where an approximate index found fewer
            rows, and scores float32 of the same shape: cosines, exact or approximate.

        Raises:
            IndexLost: if its files were deleted.
        """
        ...

    def __len__(self) -> int:
        """The number of vectors."""
        ...


#: Numbers up to which one thread multiplies them with a query in a millisecond.
_FEW_NUMBERS = 2**21


class ExactIndex:
    """Compares every query with every vector. Equal scores are in row order."""

    #: Scores in memory at once: 128 MB.
    SCORES = 2**25

    def __init__(self, vectors: Vectors):
        """Args: vectors: float32 [size, dim], unit rows."""
        self._vectors = vectors

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, queries: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
        """See :meth:`Index.search`."""
        size = len(self._vectors)
        k = min(k, size)
        rows = np.empty((len(queries), k), dtype=np.int64)
        scores = np.empty((len(queries), k), dtype=np.float32)
        for part in query_blocks(len(queries), size):
            cosines = _products(queries[part], self._vectors)
            rows[part], scores[part] = best(cosines, k)
        return rows, scores


def _products(queries: Vectors, vectors: Vectors) -> Vectors:
    """All scalar products: float32 [queries, vectors]."""
    if len(queries) == 1 and vectors.size <= _FEW_NUMBERS:
        # BLAS would share this between threads, and wait for each of them on a busy machine.
        products: Vectors = np.einsum("qd,nd->qn", queries, vectors)
        return products
    return queries @ vectors.T


def query_blocks(queries: int, size: int) -> list[slice]:
    """Splits queries into blocks whose scores with ``size`` vectors fit in memory."""
    step = max(1, ExactIndex.SCORES // max(1, size))
    return [slice(start, start + step) for start in range(0, queries, step)]


def best(scores: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
    """The ``k`` highest scores of each row; equal scores by ascending column.

    Args:
        scores: float32 [n, size].
        k: at most ``size``.

    Returns:
        Column numbers int64 [n, k], and their scores float32 [n, k].
    """
    rows = _best(scores, k)
    return rows, np.take_along_axis(scores, rows, axis=1)


def _best(scores: Vectors, k: int) -> NDArray[np.int64]:
    size = scores.shape[1]
    if k == 0:
        return np.empty((len(scores), 0), dtype=np.int64)
    if k * 4 > size:
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]
    # All columns with at least the k-th highest score are sorted, so that ties are exact.
    chosen = np.empty((len(scores), k), dtype=np.int64)
    for line, row in enumerate(scores):
        least = np.partition(row, size - k)[size - k]
        candidates = np.flatnonzero(row >= least)
        order = np.argsort(-row[candidates], kind="stable")[:k]
        chosen[line] = candidates[order]
    return chosen


def _not_stored(index: object) -> Any:
    raise NotImplementedError("an index of this kind is not stored")


@dataclass(frozen=True)
class IndexKind:
    """A kind of index: how it is built, stored and loaded. Kinds are registered in the factory.

    Attributes:
        name: as people name it.
        recall_at_10: recall@10 against exact search that it reaches on vectors of an encoder,
            after re-ranking its candidates by their exact cosines.
        storage: ``file`` for an index that ``save`` turns into bytes, ``folder`` for one that lies
            in a folder of its own, and ``memory`` for one that each process builds.
        build: builds an index from a :data:`VectorReader`, the number of vectors, their dimension
            and, for storage in a folder, the path of a new folder. It does not read all vectors
            into memory at once. Raises ``CiesError`` if a library is not installed,
            ``UsageError`` if there is no such index or it cannot hold these vectors, and
            ``OSError`` if it cannot be written.
        save: returns the content of the file of an index.
        load: loads an index from the content of its file, or from its folder. Raises
            ``ValueError`` if it is damaged.
        library: returns name and version of the library; raises ``CiesError`` if it is missing.
        factory: returns FAISS's name of the index for a number of vectors and their dimension;
            empty for other libraries.
        is_installed: whether the library is installed.
        is_quick: whether it is built within seconds, even from a million vectors.
        fallback: the kind that answers while this one is not built, because a search does not
            wait for it. Empty if a search may build it.
    """

    name: str
    recall_at_10: float
    storage: Literal["file", "folder", "memory"]
    build: Callable[[VectorReader, int, int, Path | None], Index]
    save: Callable[[Any], bytes] = _not_stored
    load: Callable[[Any], Index] = _not_stored
    library: Callable[[], str] = lambda: ""
    factory: Callable[[int, int], str] = lambda count, dimension: ""
    is_installed: Callable[[], bool] = lambda: True
    is_quick: bool = False
    fallback: str = ""
