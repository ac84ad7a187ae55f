"""Chooses and makes an index. Apart from the interface, so that FAISS is imported late."""

from __future__ import annotations

from indexes.base import ExactIndex, Index
from indexes.vectors import Vectors

#: Up to here an exact scan answers as fast as any index; above, FAISS takes over.
EXACT_LIMIT = 50_000


def make_index(vectors: Vectors, kind: str = "auto") -> Index:
    """An index over unit vectors.

    Args:
        vectors: float32 [size, dim], unit rows.
        kind: ``exact``, ``faiss``, or ``auto`` to choose by size.

    Raises:
        CiesError: if FAISS is needed and not installed.
        ValueError: if there is no such kind.
    """
    if kind not in ("auto", "exact", "faiss"):
        raise ValueError(f"there is no index '{kind}'")
    if kind == "faiss" or (kind == "auto" and len(vectors) > EXACT_LIMIT):
        from indexes.faiss_index import FaissIndex

        return FaissIndex(vectors)
    return ExactIndex(vectors)
