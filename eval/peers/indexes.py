"""Indexes of other libraries over the vectors of a gallery."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from indexes.vectors import Vectors

#: Queries float32 [n, dim] to the rows of the nearest vectors, int64 [n, k].
Ask = Callable[[Vectors, int], NDArray[np.int64]]


@dataclass(frozen=True)
class PeerIndex:
    """An index of another library.

    Attributes:
        library: its distribution.
        settings: what it was built with, for the table.
        build: builds it over float32 [n, dim], unit rows.
    """

    library: str
    settings: str
    build: Callable[[Vectors], Ask]

    @property
    def name(self) -> str:
        """The library with its version and settings."""
        return f"{self.library} {version(self.library)}, {self.settings}"


def _usearch(vectors: Vectors) -> Ask:
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="cos", dtype="f32")
    index.add(np.arange(len(vectors)), vectors, threads=1)

    def ask(queries: Vectors, k: int) -> NDArray[np.int64]:
        keys = index.search(queries, k, threads=1).keys
        return np.asarray(keys, dtype=np.int64).reshape(len(queries), k)

    return ask


def _hnswlib(vectors: Vectors) -> Ask:
    import hnswlib

    index = hnswlib.Index(space="cosine", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), ef_construction=200, M=16)
    index.set_num_threads(1)
    index.add_items(vectors, np.arange(len(vectors)))
    index.set_ef(64)

    def ask(queries: Vectors, k: int) -> NDArray[np.int64]:
        rows, _ = index.knn_query(queries, k)
        return np.asarray(rows, dtype=np.int64)

    return ask


PEER_INDEXES = {
    "usearch": PeerIndex("usearch", "its defaults, f32", _usearch),
    "hnswlib": PeerIndex("hnswlib", "M 16, ef 200 and 64", _hnswlib),
}
