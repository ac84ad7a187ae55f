"""The registry of index kinds, and the choice among them.

A new kind of index is an :class:`indexes.search.base.IndexKind` in :data:`REGISTRY`; nothing else
depends on the kinds.
"""

from __future__ import annotations

import numpy as np

from indexes.search.base import ExactIndex, Index, IndexKind
from indexes.search.faiss import GPU, faiss_kind
from indexes.search.lance_index import LANCE
from indexes.vectors import Vectors

#: Vectors up to which an exact scan is as fast as any index.
EXACT_LIMIT = 50_000

#: Vectors up to which a flat scan of 1-bit codes is used; above, inverted lists of them.
FLAT_LIMIT = 1_000_000

#: Bytes that FAISS stores of a vector in addition to one bit a dimension: factors and an offset.
_EXTRA_BYTES = 16

#: All kinds, by name.
REGISTRY: dict[str, IndexKind] = {
    kind.name: kind
    for kind in (
        IndexKind(
            "exact",
            1.0,
            "memory",
            lambda rows, count, dimension, _: ExactIndex(rows(np.arange(count))),
            is_quick=True,
        ),
        # Codes only: their candidates are compared with the vectors themselves, which a gallery
        # stores with every index, so that no index has a second copy of them.
        faiss_kind("faiss", 0.97, lambda count, dimension: "RaBitQfs", is_quick=True),
        faiss_kind("ivf", 0.97, lambda count, _: f"IVF{_lists(count)},RaBitQ", fallback="faiss"),
        faiss_kind("hnsw", 0.97, lambda count, dimension: "HNSW32,SQ8"),
        faiss_kind("pq", 0.9, lambda n, dim: f"IVF{_lists(n)},PQ{_codes(dim)}x4fs"),
        LANCE,
        GPU,
    )
}

#: The names that a user can choose from; any other name is a FAISS factory string.
KINDS = ("auto", *REGISTRY)


def _lists(count: int) -> int:
    """The number of inverted lists for this many vectors."""
    lists = 2 ** round(np.log2(2 * np.sqrt(max(count, 1))))
    return int(max(1, min(lists, count // 39)))


def _codes(dimension: int) -> int:
    """The number of 4-bit codes for a vector, each of four numbers or a few more.

    A product quantizer needs a number of codes that divides the dimension.
    """
    return max(n for n in range(1, max(1, dimension // 4) + 1) if dimension % n == 0)


def find_kind(name: str) -> IndexKind:
    """The kind of this name; a name that is not registered is a FAISS factory string."""
    return REGISTRY.get(name) or faiss_kind(name, 0.0, lambda count, dimension: name)


def choose(count: int, dimension: int) -> str:
    """The kind that suits this number of vectors and the free memory.

    Args:
        count: number of vectors.
        dimension: the dimension of each vector.

    Returns:
        ``exact``, ``faiss``, ``ivf``, or ``lance`` if the codes would take more than half of the
        free memory.
    """
    import psutil

    if count <= EXACT_LIMIT:
        return "exact"
    codes = count * (dimension // 8 + _EXTRA_BYTES)
    if 2 * codes > int(psutil.virtual_memory().available):
        return "lance"
    return "faiss" if count <= FLAT_LIMIT else "ivf"


def kind_in_memory(count: int, name: str) -> str:
    """The kind that :func:`make_index` builds for a name."""
    if not count:
        return "exact"
    if name == "auto" or find_kind(name).storage == "folder":
        return "exact" if count <= EXACT_LIMIT else "faiss"
    return name


def make_index(vectors: Vectors, name: str = "auto") -> Index:
    """Build an index over unit vectors in memory.

    Args:
        vectors: float32 [size, dim], unit rows.
        name: one of :data:`KINDS`, or a FAISS factory string. A kind that is stored on disk is
            replaced as for ``auto``.

    Raises:
        CiesError: if FAISS is needed and not installed.
        UsageError: if there is no such index.
    """
    count, dimension = vectors.shape
    kind = find_kind(kind_in_memory(count, name))
    return kind.build(lambda rows: vectors[rows], count, dimension, None)
