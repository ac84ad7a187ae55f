"""Baselines of the search benchmark: NumPy, FAISS and LanceDB with their defaults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.vectors import Vectors

#: Number of hits.
K = 10

#: Queries [n, dim] to rows int64 [n, 10], and their scores if these are exact, else zeros.
SearchCall = Callable[[Vectors], tuple[NDArray[np.int64], Vectors]]


def numpy_search(vectors: Vectors, place: Path) -> tuple[SearchCall, Path, str]:
    """A search by matrix product, the file of its vectors, and its version."""
    file = place / "vectors.npy"
    np.save(file, vectors)

    def ask(queries: Vectors) -> tuple[NDArray[np.int64], Vectors]:
        found = [
            _ten(queries[start : start + 64] @ vectors.T) for start in range(0, len(queries), 64)
        ]
        rows = np.concatenate(found)
        return rows, np.zeros(rows.shape, dtype=np.float32)

    return ask, file, f"numpy {np.__version__}"


def _ten(scores: Vectors) -> NDArray[np.int64]:
    rows = np.argpartition(scores, -K, axis=1)[:, -K:]
    order = np.argsort(-np.take_along_axis(scores, rows, 1), axis=1)
    return np.take_along_axis(rows, order, 1)


def faiss_flat(vectors: Vectors, place: Path) -> tuple[SearchCall, Path, str]:
    """A search in a flat index of FAISS, the file of the index, and its version."""
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    file = place / "flat.faiss"
    faiss.write_index(index, str(file))

    def ask(queries: Vectors) -> tuple[NDArray[np.int64], Vectors]:
        scores, rows = index.search(queries, K)
        return rows, scores

    return ask, file, f"faiss {faiss.__version__} Flat"


def lancedb_scan(vectors: Vectors, place: Path) -> tuple[SearchCall, Path, str]:
    """A search in a LanceDB table without an index, its folder, and its version."""
    import lancedb
    import pyarrow as pa

    flat = pa.array(vectors.astype(np.float16).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    rows = pa.table({"row": pa.array(np.arange(len(vectors))), "vector": column})
    file = place / "lance"
    table = lancedb.connect(str(file)).create_table("plain", rows)

    def ask(queries: Vectors) -> tuple[NDArray[np.int64], Vectors]:
        asked: Any = table.search(queries if len(queries) > 1 else queries[0])
        found = asked.distance_type("dot").limit(K).select(["row", "_distance"]).to_arrow()
        numbers = found.column("row").to_numpy()
        if len(queries) > 1:
            numbers = numbers[np.argsort(found.column("query_index").to_numpy(), kind="stable")]
        kept = numbers.reshape(len(queries), K)
        return kept, np.zeros(kept.shape, dtype=np.float32)

    return ask, file, f"lancedb {lancedb.__version__} without an index"
