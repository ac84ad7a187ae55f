"""Indexes of the FAISS library. The only module that imports faiss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.errors import CiesError, UsageError
from indexes.search.base import IndexKind, VectorReader
from indexes.vectors import Vectors

#: Vectors up to which 15 candidates are re-ranked for each hit. With more vectors, more of them
#: are closer than a code can tell, and 40 are re-ranked. With 1,000,000 x 512 that is recall@10
#: 0.967 against 0.998, at 8.7 against 10.7 ms; with 100,000, fifteen reach 0.9996.
_MANY = 250_000

#: Inverted lists that a search visits, at least, and as a share of all lists.
_LEAST_PROBES = 16
_PROBED_SHARE = 64

#: Nodes of a graph that a search keeps as candidates, at least.
_GRAPH_WIDTH = 128

#: Vectors that an index is trained on, and vectors added at once.
_TRAINED = 65_536
_ADDED = 65_536


def candidates_per_hit(size: int) -> int:
    """How many candidates of an index over ``size`` vectors are re-ranked for each hit."""
    return 15 if size <= _MANY else 40


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise CiesError(
            "FAISS is not installed; install it with `pip install 'cies[cpu]'`, "
            "or search exactly with `--index exact`."
        ) from error
    return faiss


def version() -> str:
    """The name and version of FAISS.

    Raises:
        CiesError: if FAISS is not installed.
    """
    return f"faiss {_faiss().__version__}"


def installed() -> bool:
    """Whether FAISS can be imported, without importing it."""
    from importlib.util import find_spec

    return find_spec("faiss") is not None


def products_at(
    queries: Vectors, vectors: Vectors, rows: NDArray[np.int64]
) -> NDArray[np.float32] | None:
    """Inner products of each query with its own rows.

    Several times faster than NumPy, which copies the rows first.

    Args:
        queries: float32 [n, dim].
        vectors: float32 [size, dim].
        rows: int64 [n, m], row numbers of ``vectors``.

    Returns:
        float32 [n, m], or ``None`` if FAISS is not installed.
    """
    if not installed():
        return None
    faiss = _faiss()
    found = np.empty(rows.shape, dtype=np.float32)
    arrays = [np.ascontiguousarray(array) for array in (queries, vectors, rows)]
    pointers = [faiss.swig_ptr(array) for array in (found, *arrays)]
    faiss.fvec_inner_products_by_idx(*pointers, queries.shape[1], *rows.shape)
    return found


class FaissIndex:
    """A FAISS index over inner products of unit vectors."""

    def __init__(self, index: Any):
        """Take a FAISS index, and set how far it searches, which FAISS does not store.

        Args:
            index: a ``faiss.Index``.
        """
        self._faiss = _faiss()
        self._index = index
        lists = _inverted_lists(self._faiss, index)
        if lists is not None:
            lists.nprobe = max(_LEAST_PROBES, int(lists.nlist) // _PROBED_SHARE)
        plain = self._faiss.downcast_index(index)
        if isinstance(plain, self._faiss.IndexHNSW):
            plain.hnsw.efSearch = _GRAPH_WIDTH
        if isinstance(plain, self._faiss.IndexRefine):
            plain.k_factor = candidates_per_hit(int(index.ntotal))

    @classmethod
    def build(cls, rows: VectorReader, count: int, dimension: int, factory: str) -> FaissIndex:
        """Build an index without reading all vectors into memory at once.

        Args:
            rows: returns vectors by number.
            count: number of vectors.
            dimension: the dimension of each vector.
            factory: a FAISS index factory string.

        Raises:
            CiesError: if FAISS is not installed.
            UsageError: if there is no such index, or it cannot hold these vectors.
        """
        faiss = _faiss()
        try:
            index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
        except (RuntimeError, ValueError) as error:
            raise UsageError(
                f"There is no index '{factory}'; choose auto, a kind that `cies index --help` "
                "lists, or a FAISS factory string such as 'IVF1024,SQ8'."
            ) from error
        trained = _TRAINED
        lists = _inverted_lists(faiss, index)
        if lists is not None:
            # Small galleries have few vectors a list; FAISS would print a warning.
            lists.cp.min_points_per_centroid = 1
            trained = max(_TRAINED, 64 * int(lists.nlist))
        sample = numbers = np.arange(count)
        if count > trained:
            chosen = np.random.default_rng(0).choice(count, trained, replace=False)
            sample = numbers[np.sort(chosen)]
        try:
            if not index.is_trained:
                index.train(rows(sample))
            for start in range(0, count, _ADDED):
                index.add(rows(numbers[start : start + _ADDED]))
        except RuntimeError as error:
            reason = str(error).splitlines()[0].rpartition("Error: ")[2][:200]
            raise UsageError(
                f"The index '{factory}' cannot hold {count} vectors of {dimension} numbers "
                f"({reason}); choose another with --kind or --index."
            ) from error
        return cls(index)

    @classmethod
    def from_bytes(cls, data: bytes) -> FaissIndex:
        """Read the result of :meth:`to_bytes`.

        Raises:
            ValueError: if FAISS cannot read it.
            CiesError: if FAISS is not installed.
        """
        try:
            return cls(_faiss().deserialize_index(np.frombuffer(data, dtype=np.uint8)))
        except RuntimeError as error:
            raise ValueError(str(error).splitlines()[0]) from error

    def to_bytes(self) -> bytes:
        """The index as the content of a file."""
        content: bytes = self._faiss.serialize_index(self._index).tobytes()
        return content

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, queries: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
        """See :meth:`indexes.search.base.Index.search`."""
        k = min(k, len(self))
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        scores, rows = self._index.search(queries, k)
        return rows.astype(np.int64), scores.astype(np.float32)


class GpuIndex:
    """A flat scan on a graphics card, with float16 vectors in its memory."""

    def __init__(self, rows: VectorReader, count: int, dimension: int):
        """Copy vectors to the first graphics card; see :meth:`FaissIndex.build` for arguments.

        Raises:
            CiesError: if there is no graphics card, or FAISS is not built for one.
        """
        faiss = _faiss()
        if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
            raise CiesError(
                "The index 'gpu' needs a graphics card and FAISS built for it; on a machine that "
                "has one, `pip uninstall faiss-cpu` and `pip install 'cies[gpu]'`, else choose "
                "another index."
            )
        self._resources = faiss.StandardGpuResources()
        settings = faiss.GpuIndexFlatConfig()
        settings.useFloat16 = True
        self._index = faiss.GpuIndexFlatIP(self._resources, dimension, settings)
        numbers = np.arange(count)
        for start in range(0, count, _ADDED):
            self._index.add(rows(numbers[start : start + _ADDED]))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, queries: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
        """See :meth:`indexes.search.base.Index.search`."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        # FAISS returns at most 2,048 rows on a graphics card.
        scores, rows = self._index.search(queries, min(k, len(self), 2048))
        return rows.astype(np.int64), scores.astype(np.float32)


def faiss_kind(
    name: str,
    recall_at_10: float,
    factory: Callable[[int, int], str],
    is_quick: bool = False,
    fallback: str = "",
) -> IndexKind:
    """A kind of index by FAISS; see :class:`indexes.search.base.IndexKind` for the arguments."""
    return IndexKind(
        name,
        recall_at_10,
        "file",
        lambda rows, count, dimension, _: FaissIndex.build(
            rows, count, dimension, factory(count, dimension)
        ),
        FaissIndex.to_bytes,
        FaissIndex.from_bytes,
        version,
        factory,
        installed,
        is_quick,
        fallback,
    )


#: A flat scan on a graphics card.
GPU = IndexKind(
    "gpu",
    0.99,
    "memory",
    lambda rows, count, dimension, _: GpuIndex(rows, count, dimension),
    library=version,
    factory=lambda count, dimension: "Flat",
    is_installed=installed,
)


def _inverted_lists(faiss: Any, index: Any) -> Any:
    """The inverted file within an index, or ``None``."""
    return faiss.try_extract_index_ivf(index)
