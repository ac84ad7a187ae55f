"""The vectors of a condition, as many as may be, compared with a question exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from indexes.search.faiss import products_at
from indexes.search.row_cache import RowCache, row_hashes
from indexes.vectors import Vectors

#: Rows of fp16 made fp32 at once, so that they stay in the processor's cache.
_BLOCK = 4096

#: Compared rows, as a share of those there are, from which on they are better all in fp32.
_MANY = 0.5

#: Numbers of one block of gathered vectors.
_GATHERED = 8 * 2**20


class Matrix:
    """Unit vectors by row number: those of a cached file first, then those in memory.

    A row of the file is checked when it is first used. Where a check fails, all rows are read
    from the gallery again, and the file is used no more.
    """

    def __init__(
        self,
        base: RowCache | None,
        fresh: Vectors,
        anew: Callable[[], Vectors] | None = None,
    ):
        """Take rows.

        Args:
            base: rows on disk.
            fresh: float32 [m, dim], unit rows that follow.
            anew: reads the rows of ``base`` from the gallery: float32 [n, dim], unit rows.
        """
        self._base = base
        self._fresh = fresh
        self._anew = anew
        self._split = len(base) if base is not None else 0
        self._checked = np.zeros(self._split, dtype=bool)
        self._wide: Vectors | None = None

    def __len__(self) -> int:
        return self._split + len(self._fresh)

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self._fresh.shape[1])

    def rows(self, numbers: NDArray[np.int64]) -> Vectors:
        """Some vectors: float32 [len(numbers), dim], unit rows."""
        if self._base is None:
            return self._fresh[numbers]
        old = numbers < self._split
        if old.all():
            return self._stored(numbers)
        found = np.empty((len(numbers), self.dimension), dtype=np.float32)
        found[old] = self._stored(numbers[old])
        found[~old] = self._fresh[numbers[~old] - self._split]
        return found

    def _stored(self, numbers: NDArray[np.int64]) -> Vectors:
        if self._wide is not None:
            return self._wide[numbers]
        assert self._base is not None
        halves = self._base.halves[numbers]
        if not self._sound(numbers, halves):
            return self._from_gallery()[numbers]
        return self._widened(halves, numbers)

    def _widened(self, halves: NDArray[np.float16], rows: NDArray[np.int64] | slice) -> Vectors:
        assert self._base is not None
        wide = halves[:, : self.dimension].astype(np.float32)
        wide /= self._base.lengths[rows, None]
        return wide

    def _sound(self, rows: NDArray[np.int64] | slice, halves: NDArray[np.float16]) -> bool:
        """Whether rows are what they were when they were written."""
        assert self._base is not None
        if not self._checked[rows].all():
            if not np.array_equal(row_hashes(halves), self._base.hashes[rows]):
                return False
            self._checked[rows] = True
        return True

    def _from_gallery(self) -> Vectors:
        """All rows of the file anew, now that it was found damaged."""
        assert self._anew is not None
        self._wide = self._anew()
        return self._wide

    def _blocks(self) -> Iterator[tuple[int, Vectors]]:
        """The rows of the file in turn, each block with the number of its first row."""
        if self._base is None:
            return
        if self._wide is None and self._fits():
            wide = np.empty((self._split, self.dimension), dtype=np.float32)
            for start, block in self._narrow():
                wide[start : start + len(block)] = block
            if self._wide is None:
                self._wide = wide
        if self._wide is not None:
            yield 0, self._wide
            return
        yield from self._narrow()

    def _narrow(self) -> Iterator[tuple[int, Vectors]]:
        assert self._base is not None
        for start in range(0, self._split, _BLOCK):
            part = slice(start, min(start + _BLOCK, self._split))
            halves = self._base.halves[part]
            if self._wide is None and self._sound(part, halves):
                yield start, self._widened(halves, part)
            else:
                wide = self._wide if self._wide is not None else self._from_gallery()
                yield start, wide[part]

    def _fits(self) -> bool:
        """Whether a copy in fp32 takes no more than half of the memory that is free.

        NumPy widens fp16 at 0.6 billion numbers a second, ten times slower than it multiplies
        fp32: the copy is worth its memory from the second question on.
        """
        import psutil

        needed = 4 * self._split * self.dimension
        return needed * 2 <= int(psutil.virtual_memory().available)

    def scores(self, queries: Vectors) -> Vectors:
        """Cosines with every row: float32 [len(queries), len(self)].

        Args:
            queries: float32 [n, dim], unit rows.
        """
        found = np.empty((len(queries), len(self)), dtype=np.float32)
        for start, block in self._blocks():
            np.matmul(queries, block.T, out=found[:, start : start + len(block)])
        if len(self._fresh):
            np.matmul(queries, self._fresh.T, out=found[:, self._split :])
        return found

    def _whole(self, rows: NDArray[np.int64]) -> Vectors | None:
        """All vectors in fp32, if these rows are among them and it pays to have them so."""
        if self._base is None:
            return self._fresh
        if not rows.size or int(rows.max()) >= self._split:
            return None
        if self._wide is None and rows.size >= _MANY * self._split and self._fits():
            for _ in self._blocks():
                pass
        return self._wide

    def scores_of(self, queries: Vectors, rows: NDArray[np.int64]) -> Vectors:
        """Cosines of each query with rows of its own.

        Args:
            queries: float32 [n, dim], unit rows.
            rows: int64 [n, m].

        Returns:
            float32 [n, m].
        """
        whole = self._whole(rows)
        if whole is not None:
            products = products_at(queries, whole, rows)
            if products is not None:
                return products
        count = rows.shape[1]
        found = np.empty(rows.shape, dtype=np.float32)
        step = max(1, _GATHERED // max(1, count * self.dimension))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            vectors = self.rows(rows[part].reshape(-1)).reshape(-1, count, self.dimension)
            found[part] = np.matmul(vectors, queries[part, :, None])[:, :, 0]
        return found
