"""LanceDB's IVF_RQ behind the :class:`indexes.search.base.Index` protocol: most of it stays on the disk.

The index is a Lance table of its own, never the gallery's: it is built in the geometry that
vectors are compared in, and neither waits for a writer nor makes a commit in the gallery.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.search.base import IndexLost
from indexes.store.lance import lancedb
from indexes.vectors import Vectors

#: Lists looked at, at least, and what share of them.
_LEAST_PROBES = 20
_PROBED_SHARE = 32

#: Vectors in one commit.
_ADDED = 65_536

#: Below this LanceDB has too little to learn a list from.
_LEAST = 256


def version() -> str:
    """LanceDB's own, for naming what it built."""
    return f"lancedb {lancedb().__version__}"


class LanceIndex:
    """An IVF_RQ index in a folder, opened anew for every use."""

    def __init__(self, folder: Path):
        """Open what :meth:`build` made.

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
        cls,
        folder: Path,
        rows: Callable[[NDArray[np.int64]], Vectors],
        numbers: NDArray[np.int64],
        dimension: int,
    ) -> LanceIndex:
        """Make the index in an empty folder.

        Args:
            folder: for it.
            rows: gives vectors by number, float32 [n, dim], unit rows.
            numbers: int64 [size], the vectors to hold, in the order they are numbered by it.
            dimension: ``dim``.

        Raises:
            UsageError: if there are too few vectors.
            OSError: if it cannot be written.
        """
        connect = lancedb().connect
        from lancedb.index import IvfRq

        if len(numbers) < _LEAST or dimension % 8:
            raise UsageError(
                f"The index 'lance' needs {_LEAST} vectors of a dimension divisible by 8, and "
                f"these are {len(numbers)} of {dimension}; choose exact."
            )
        schema = pa.schema([("row", pa.int64()), ("vector", pa.list_(pa.float16(), dimension))])

        def batches() -> Any:
            for start in range(0, len(numbers), _ADDED):
                part = numbers[start : start + _ADDED]
                flat = pa.array(rows(part).astype(np.float16).reshape(-1))
                places = pa.array(np.arange(start, start + len(part), dtype=np.int64))
                vectors = pa.FixedSizeListArray.from_arrays(flat, dimension)
                yield pa.RecordBatch.from_arrays([places, vectors], schema=schema)

        reader = pa.RecordBatchReader.from_batches(schema, batches())
        try:
            table = connect(str(folder)).create_table("vectors", data=reader)
            settings = IvfRq(distance_type="dot", num_partitions=_lists(len(numbers)))
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
            asked = self._table.search(np.ascontiguousarray(queries, dtype=np.float32))
            asked = asked.distance_type("dot")
            asked = asked.nprobes(max(_LEAST_PROBES, self._lists // _PROBED_SHARE))
            found = asked.limit(k).select(["row", "_distance"]).to_arrow()
        except (RuntimeError, OSError) as error:
            raise IndexLost(str(error).splitlines()[0][:200]) from error
        numbers = found.column("row").to_numpy()
        near = 1.0 - found.column("_distance").to_numpy()
        of = found.column("query_index").to_numpy() if len(queries) > 1 else np.zeros(len(numbers))
        for line in range(len(queries)):
            own = np.flatnonzero(of == line)
            own = own[np.argsort(-near[own], kind="stable")]
            rows[line, : len(own)] = numbers[own]
            scores[line, : len(own)] = near[own]
        return rows, scores


def _lists(count: int) -> int:
    return int(max(1, min(2 ** round(np.log2(2 * np.sqrt(max(count, 1)))), count // 128)))
