"""The IVF_RQ index of LanceDB: most of it stays on the disk.

The index is a Lance table of its own, separate from the gallery's tables: it has the vectors as
they are compared, needs no writer's lock, and makes no commit in the gallery.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.search.base import IndexKind, IndexLost, VectorReader
from indexes.store.lance import lancedb
from indexes.vectors import Vectors

#: Inverted lists that a search visits, at least, and as a share of all lists.
_LEAST_PROBES = 20
_PROBED_SHARE = 32

#: Vectors in one commit.
_ADDED = 65_536

#: LanceDB cannot train its lists on fewer vectors.
_LEAST = 256


class LanceIndex:
    """An IVF_RQ index in a folder."""

    def __init__(self, folder: Path):
        """Open the result of :meth:`build`.

        Raises:
            ValueError: if LanceDB cannot open it.
        """
        try:
            self._table: Any = lancedb().connect(str(folder)).open_table("vectors")
            self._size = int(self._table.count_rows())
            self._lists = _lists(self._size)
        except (RuntimeError, OSError, ValueError) as error:
            raise ValueError(str(error).splitlines()[0]) from error

    @classmethod
    def build(
        cls, rows: VectorReader, count: int, dimension: int, folder: Path | None
    ) -> LanceIndex:
        """Build the index in a new folder.

        Args:
            rows: returns vectors by number.
            count: number of vectors.
            dimension: the dimension of each vector.
            folder: the folder of the index.

        Raises:
            UsageError: if there are too few vectors.
            OSError: if it cannot be written.
        """
        assert folder is not None
        connect = lancedb().connect
        from lancedb.index import IvfRq

        if count < _LEAST or dimension % 8:
            raise UsageError(
                f"The index 'lance' needs {_LEAST} vectors of a dimension divisible by 8, and "
                f"these are {count} of {dimension}; choose exact."
            )
        schema = pa.schema([("row", pa.int64()), ("vector", pa.list_(pa.float16(), dimension))])

        def batches() -> Any:
            for start in range(0, count, _ADDED):
                numbers = np.arange(start, min(start + _ADDED, count), dtype=np.int64)
                flat = pa.array(rows(numbers).astype(np.float16).reshape(-1))
                vectors = pa.FixedSizeListArray.from_arrays(flat, dimension)
                yield pa.RecordBatch.from_arrays([pa.array(numbers), vectors], schema=schema)

        reader = pa.RecordBatchReader.from_batches(schema, batches())
        try:
            table = connect(str(folder)).create_table("vectors", data=reader)
            settings = IvfRq(distance_type="dot", num_partitions=_lists(count))
            table.create_index("vector", config=settings)
        except RuntimeError as error:
            raise OSError(str(error).splitlines()[0][:200]) from error
        return cls(folder)

    def __len__(self) -> int:
        return self._size

    def search(self, queries: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
        """See :meth:`indexes.search.base.Index.search`."""
        k = min(k, self._size)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        try:
            query = self._table.search(np.ascontiguousarray(queries, dtype=np.float32))
            query = query.distance_type("dot")
            query = query.nprobes(max(_LEAST_PROBES, self._lists // _PROBED_SHARE))
            found = query.limit(k).select(["row", "_distance"]).to_arrow()
        except (RuntimeError, OSError) as error:
            raise IndexLost(str(error).splitlines()[0][:200]) from error
        numbers = found.column("row").to_numpy()
        cosines = 1.0 - found.column("_distance").to_numpy()
        query_of = np.zeros(len(numbers))
        if len(queries) > 1:
            query_of = found.column("query_index").to_numpy()
        for line in range(len(queries)):
            hits = np.flatnonzero(query_of == line)
            hits = hits[np.argsort(-cosines[hits], kind="stable")]
            rows[line, : len(hits)] = numbers[hits]
            scores[line, : len(hits)] = cosines[hits]
        return rows, scores


def _lists(count: int) -> int:
    return int(max(1, min(2 ** round(np.log2(2 * np.sqrt(max(count, 1)))), count // 128)))


#: An index by LanceDB that stays on the disk.
LANCE = IndexKind(
    "lance",
    0.9,
    "folder",
    LanceIndex.build,
    load=LanceIndex,
    library=lambda: f"lancedb {lancedb().__version__}",
    fallback="exact",
)
