"""Chooses and makes an index. Apart from the interface, so that FAISS is imported late."""

from __future__ import annotations

from indexes.search.base import ExactIndex, Index
from indexes.vectors import Vectors

#: The kinds by name; any other one is a FAISS factory string.
KINDS = ("auto", "exact", "faiss", "ivf", "hnsw", "pq", "lance", "gpu")

#: Up to here an exact scan answers as fast as any index; above, FAISS takes over.
EXACT_LIMIT = 50_000

#: Up to here a flat scan of 1-bit codes does; above, lists of them.
FLAT_LIMIT = 1_000_000

#: Bytes that FAISS holds of a vector beside a bit a dimension: factors and an offset.
_BESIDE = 16


def choose(count: int, dimension: int) -> str:
    """The kind that suits so many vectors and the memory that is free.

    Args:
        count: vectors.
        dimension: of each.

    Returns:
        ``exact``, ``faiss``, ``ivf``, or ``lance`` where the codes would take more than half of
        the free memory.
    """
    import psutil

    if count <= EXACT_LIMIT:
        return "exact"
    codes = count * (dimension // 8 + _BESIDE)
    if 2 * codes > int(psutil.virtual_memory().available):
        return "lance"
    return "faiss" if count <= FLAT_LIMIT else "ivf"


def kind_in_memory(count: int, kind: str) -> str:
    """What :func:`make_index` takes a kind for."""
    if not count or (kind in ("auto", "lance") and count <= EXACT_LIMIT):
        return "exact"
    return "faiss" if kind in ("auto", "lance") else kind


def make_index(vectors: Vectors, kind: str = "auto") -> Index:
    """An index over unit vectors, in memory.

    Args:
        vectors: float32 [size, dim], unit rows.
        kind: one of :data:`KINDS` but ``lance``, which is on the disk, or a FAISS factory string.

    Raises:
        CiesError: if FAISS is needed and not installed.
        UsageError: if there is no such index.
    """
    kind = kind_in_memory(len(vectors), kind)
    if kind == "exact":
        return ExactIndex(vectors)
    import numpy as np

    from indexes.search.faiss import FaissIndex, GpuIndex, factory_of

    if kind == "gpu":
        return GpuIndex(lambda rows: vectors[rows], np.arange(len(vectors)), vectors.shape[1])
    return FaissIndex(vectors, factory_of(kind, *vectors.shape))
