"""FAISS behind the :class:`indexes.search.base.Index` protocol. The only module that imports faiss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.errors import CiesError, UsageError
from indexes.vectors import Vectors

#: A flat scan over 1-bit codes, re-ranked by the fp16 originals: nothing to tune, built in
#: seconds, recall@10 0.997 and above where it was measured.
DEFAULT_FACTORY = "RaBitQfs,Refine(SQfp16)"

#: Vectors up to which 15 candidates are ranked anew for each hit wanted; among more of them as many
#: lie closer than a code can tell, and 40 are. In 1,000,000 x 512 that is recall@10 0.967 against
#: 0.998, at 8.7 against 10.7 ms; in 100,000 fifteen give 0.9996.
_MANY = 250_000

#: Lists of an inverted file that are looked at, at least, and what share of them.
_LEAST_PROBES = 16
_PROBED_SHARE = 64

#: How far a graph is searched: at least this many of its nodes are kept on the way.
_GRAPH_WIDTH = 128

#: Vectors that an index learns its codes from, and those added at once.
_TRAINED = 65_536
_ADDED = 65_536


def candidates_per_hit(size: int) -> int:
    """How many of an index's candidates are ranked anew for each hit wanted, among ``size``."""
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
    """FAISS's own, for naming what it built.

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
    """Inner products of each query with rows of its own, several times faster than by NumPy,
    which gathers the rows first.

    Args:
        queries: float32 [n, dim].
        vectors: float32 [size, dim].
        rows: int64 [n, m], each a row of ``vectors``.

    Returns:
        float32 [n, m], or ``None`` if FAISS is not installed.
    """
    if not installed():
        return None
    faiss = _faiss()
    found = np.empty(rows.shape, dtype=np.float32)
    given = [np.ascontiguousarray(array) for array in (queries, vectors, rows)]
    pointers = [faiss.swig_ptr(array) for array in (found, *given)]
    faiss.fvec_inner_products_by_idx(*pointers, queries.shape[1], *rows.shape)
    return found


def factory_of(kind: str, count: int, dimension: int) -> str:
    """The factory string of a kind by name; one that is no name is a factory string itself.

    Codes only: what they find is compared anew with the vectors themselves, which a gallery has
    beside every index, so that none keeps a second copy of them.

    Args:
        kind: ``faiss``, ``ivf``, ``hnsw``, ``pq`` or a factory string.
        count: vectors.
        dimension: of each.
    """
    lists = 2 ** round(np.log2(2 * np.sqrt(max(count, 1))))
    lists = int(max(1, min(lists, count // 39)))
    # Four numbers a code of 4 bits, and a product quantiser takes only what divides evenly.
    codes = max(n for n in range(1, max(1, dimension // 4) + 1) if dimension % n == 0)
    names = {
        "faiss": "RaBitQfs",
        "ivf": f"IVF{lists},RaBitQ",
        "hnsw": "HNSW32,SQ8",
        "pq": f"IVF{lists},PQ{codes}x4fs",
    }
    return names.get(kind, kind)


class FaissIndex:
    """An index made by FAISS from a factory string, over inner products of unit vectors."""

    def __init__(self, vectors: Vectors | None, factory: str = DEFAULT_FACTORY):
        """Build the index.

        Args:
            vectors: float32 [size, dim], unit rows.
            factory: a FAISS index factory string.

        Raises:
            CiesError: if FAISS is not installed.
            UsageError: if there is no such index, or these vectors cannot fill it.
        """
        self._faiss = _faiss()
        self._index: Any = None
        if vectors is not None:
            numbers = np.arange(len(vectors))
            self._fill(lambda rows: vectors[rows], numbers, vectors.shape[1], factory)

    @classmethod
    def build(
        cls,
        rows: Callable[[NDArray[np.int64]], Vectors],
        numbers: NDArray[np.int64],
        dimension: int,
        factory: str,
    ) -> FaissIndex:
        """Build an index over more vectors than are wanted in memory at once.

        Args:
            rows: gives vectors by number, float32 [n, dim], unit rows.
            numbers: int64 [size], the vectors to hold, in the order they are numbered by it.
            dimension: ``dim``.
            factory: a FAISS index factory string.

        Raises:
            CiesError: if FAISS is not installed.
            UsageError: if there is no such index, or these vectors cannot fill it.
        """
        made = cls(None)
        made._fill(rows, numbers, dimension, factory)
        return made

    def _fill(
        self,
        rows: Callable[[NDArray[np.int64]], Vectors],
        numbers: NDArray[np.int64],
        dimension: int,
        factory: str,
    ) -> None:
        faiss = self._faiss
        try:
            index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
        except (RuntimeError, ValueError) as error:
            raise UsageError(
                f"There is no index '{factory}'; choose auto, exact, faiss, ivf, hnsw, pq, lance, "
                "gpu, or a FAISS factory string such as 'IVF1024,SQ8'."
            ) from error
        lists = _inverted(faiss, index)
        if lists is not None:
            # Small galleries have few vectors a list; FAISS would warn on the terminal.
            lists.cp.min_points_per_centroid = 1
            trained = max(_TRAINED, 64 * int(lists.nlist))
        else:
            trained = _TRAINED
        count = len(numbers)
        drawn = numbers
        if count > trained:
            chosen = np.random.default_rng(0).choice(count, trained, replace=False)
            drawn = numbers[np.sort(chosen)]
        try:
            if not index.is_trained:
                index.train(rows(drawn))
            for start in range(0, count, _ADDED):
                index.add(rows(numbers[start : start + _ADDED]))
        except RuntimeError as error:
            reason = str(error).splitlines()[0].rpartition("Error: ")[2][:200]
            raise UsageError(
                f"The index '{factory}' cannot hold {count} vectors of {dimension} numbers "
                f"({reason}); choose another with --kind or --index."
            ) from error
        self._take(index)

    @classmethod
    def from_bytes(cls, data: bytes) -> FaissIndex:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            ValueError: if FAISS cannot read it.
            CiesError: if FAISS is not installed.
        """
        made = cls(None)
        try:
            index = made._faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
        except RuntimeError as error:
            raise ValueError(str(error).splitlines()[0]) from error
        made._take(index)
        return made

    def to_bytes(self) -> bytes:
        """The index as a file's content."""
        content: bytes = self._faiss.serialize_index(self._index).tobytes()
        return content

    def _take(self, index: Any) -> None:
        """Set how far it searches; the settings of an index are not in its file."""
        lists = _inverted(self._faiss, index)
        if lists is not None:
            lists.nprobe = max(_LEAST_PROBES, int(lists.nlist) // _PROBED_SHARE)
        plain = self._faiss.downcast_index(index)
        if isinstance(plain, self._faiss.IndexHNSW):
            plain.hnsw.efSearch = _GRAPH_WIDTH
        self._index = index

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, queries: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
        """See :meth:`indexes.search.base.Index.search`."""
        k = min(k, len(self))
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if isinstance(self._index, self._faiss.IndexRefine):
            parameters = self._faiss.IndexRefineSearchParameters(
                k_factor=candidates_per_hit(len(self))
            )
            scores, rows = self._index.search(queries, k, params=parameters)
        else:
            scores, rows = self._index.search(queries, k)
        return rows.astype(np.int64), scores.astype(np.float32)


class GpuIndex:
    """A flat scan on a graphics card, in fp16; in its memory only, never in a file."""

    def __init__(
        self,
        rows: Callable[[NDArray[np.int64]], Vectors],
        numbers: NDArray[np.int64],
        dimension: int,
    ):
        """Copy vectors to the first card; the arguments are those of :meth:`FaissIndex.build`.

        Raises:
            CiesError: if FAISS is there without a card, or not built for one.
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
        for start in range(0, len(numbers), _ADDED):
            self._index.add(rows(numbers[start : start + _ADDED]))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, queries: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
        """See :meth:`indexes.search.base.Index.search`."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        # Its limit on a card.
        scores, rows = self._index.search(queries, min(k, len(self), 2048))
        return rows.astype(np.int64), scores.astype(np.float32)


def _inverted(faiss: Any, index: Any) -> Any:
    """The inverted file within an index, or ``None``."""
    found = faiss.try_extract_index_ivf(index)
    return found
