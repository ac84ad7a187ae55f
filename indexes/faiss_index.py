"""FAISS behind the :class:`indexes.base.Index` protocol. The only module that imports faiss."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.errors import CiesError
from indexes.vectors import Vectors

#: A flat scan over 1-bit codes, re-ranked by the fp16 originals: nothing to tune, built in
#: seconds, recall@10 0.997 and above where it was measured.
DEFAULT_FACTORY = "RaBitQfs,Refine(SQfp16)"

#: Candidates re-ranked per result wanted.
REFINE_FACTOR = 10


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise CiesError(
            "FAISS is not installed; install it with `pip install 'cies[cpu]'`, "
            "or search exactly with `--index exact`."
        ) from error
    return faiss


class FaissIndex:
    """An index made by FAISS from a factory string."""

    def __init__(self, vectors: Vectors, factory: str = DEFAULT_FACTORY):
        """Build the index.

        Args:
            vectors: float32 [size, dim], unit rows.
            factory: a FAISS index factory string; inner product is used throughout.

        Raises:
            CiesError: if FAISS is not installed.
        """
        faiss = _faiss()
        self._faiss = faiss
        self._size = len(vectors)
        self._index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        self._index.train(vectors)
        self._index.add(vectors)

    def search(self, queries: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
        """See :meth:`indexes.base.Index.search`."""
        k = min(k, self._size)
        if isinstance(self._index, self._faiss.IndexRefine):
            parameters = self._faiss.IndexRefineSearchParameters(k_factor=REFINE_FACTOR)
            scores, rows = self._index.search(queries, k, params=parameters)
        else:
            scores, rows = self._index.search(queries, k)
        return rows.astype(np.int64), scores.astype(np.float32)
