"""The vectors of a condition, on disk or in memory, and their exact cosines with queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from indexes.search.faiss import products_at
from indexes.search.row_cache import RowCache, row_hashes
from indexes.vectors import Vectors

#: Rows converted from fp16 to fp32 at once, so that they fit into the processor's cache.
_BLOCK = 4096

#: Share of all rows from which on converting all of them to fp32 is faster.
_MANY = 0.5

#: Numbers in a block of gathered vectors.
_GATHERED = 8 * 2**20


class VectorMatrix:
    """Unit vectors by row number: first those of a cache, then those in memory.

    A cached row is checked when it is first used. If a check fails, all cached rows are read
    from the gallery again, and the cache is no longer used.
    """

    def __init__(
        self,
        cache: RowCache | None,
        fresh: Vectors,
        read_again: Callable[[], Vectors] | None = None,
    ):
        """Combine cached rows and rows in memory.

        Args:
            cache: the cached rows.
            fresh: the rows that follow, float32 [m, dim], unit rows.
            read_again: reads the cached rows from the gallery: float32 [n, dim], unit rows.
        """
        self._cache = cache
        self._fresh = fresh
        self._read_again = read_again
        self._cached = len(cache) if cache is not None else 0
        self._checked = np.zeros(self._cached, dtype=bool)
        self._wide: Vectors | None = None

    def with_more(
        self, fresh: Vectors, read_again: Callable[[], Vectors] | None = None
    ) -> VectorMatrix:
        """These vectors followed by others; what was checked and converted is not done again.

        Args:
            fresh: the rows that follow, float32 [m, dim], unit rows.
            read_again: as for the constructor.
        """
        more = VectorMatrix(self._cache, np.concatenate([self._fresh, fresh]), read_again)
        more._checked, more._wide = self._checked, self._wide
        return more

    def __len__(self) -> int:
        return self._cached + len(self._fresh)

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self._fresh.shape[1])

    def rows(self, numbers: NDArray[np.int64]) -> Vectors:
        """Vectors by number: float32 [len(numbers), dim], unit rows."""
        if self._cache is None:
            return self._fresh[numbers]
        cached = numbers < self._cached
        if cached.all():
            return self._cached_rows(numbers)
        found = np.empty((len(numbers), self.dimension), dtype=np.float32)
        found[cached] = self._cached_rows(numbers[cached])
        found[~cached] = self._fresh[numbers[~cached] - self._cached]
        return found

    def _cached_rows(self, numbers: NDArray[np.int64]) -> Vectors:
        if self._wide is not None:
            return self._wide[numbers]
        assert self._cache is not None
        halves = self._cache.halves[numbers]
        if not self._intact(numbers, halves):
            return self._from_gallery()[numbers]
        return self._widened(halves, numbers)

    def _widened(self, halves: NDArray[np.float16], rows: NDArray[np.int64] | slice) -> Vectors:
        assert self._cache is not None
        wide = halves[:, : self.dimension].astype(np.float32)
        wide /= self._cache.lengths[rows, None]
        return wide

    def _intact(self, rows: NDArray[np.int64] | slice, halves: NDArray[np.float16]) -> bool:
        """Whether cached rows are unchanged since they were written."""
        assert self._cache is not None
        if not self._checked[rows].all():
            if not np.array_equal(row_hashes(halves), self._cache.hashes[rows]):
                return False
            self._checked[rows] = True
        return True

    def _from_gallery(self) -> Vectors:
        """Read all rows of a damaged cache from the gallery."""
        assert self._read_again is not None
        self._wide = self._read_again()
        return self._wide

    def _blocks(self) -> Iterator[tuple[int, Vectors]]:
        """The cached rows in blocks, each with the number of its first row."""
        if self._cache is None:
            return
        if self._wide is None and self._fits():
            wide = np.empty((self._cached, self.dimension), dtype=np.float32)
            for start, block in self._converted_blocks():
                wide[start : start + len(block)] = block
            if self._wide is None:
                self._wide = wide
        if self._wide is not None:
            yield 0, self._wide
            return
        yield from self._converted_blocks()

    def _converted_blocks(self) -> Iterator[tuple[int, Vectors]]:
        assert self._cache is not None
        for start in range(0, self._cached, _BLOCK):
            part = slice(start, min(start + _BLOCK, self._cached))
            halves = self._cache.halves[part]
            if self._wide is None and self._intact(part, halves):
                yield start, self._widened(halves, part)
            else:
                wide = self._wide if self._wide is not None else self._from_gallery()
                yield start, wide[part]

    def _fits(self) -> bool:
        """Whether a copy in fp32 takes at most half of the free memory.

        NumPy converts 0.6 billion fp16 numbers a second, ten times slower than it multiplies
        fp32: the copy saves time from the second query on.
        """
        import psutil

        needed = 4 * self._cached * self.dimension
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
            np.matmul(queries, self._fresh.T, out=found[:, self._cached :])
        return found

    def _whole(self, rows: NDArray[np.int64]) -> Vectors | None:
        """All cached or all other vectors in fp32, if they include these rows and it pays."""
        if self._cache is None:
            return self._fresh
        if not rows.size or int(rows.max()) >= self._cached:
            return None
        if self._wide is None and rows.size >= _MANY * self._cached and self._fits():
            for _ in self._blocks():
                pass
        return self._wide

    def scores_of(self, queries: Vectors, rows: NDArray[np.int64]) -> Vectors:
        """Cosines of each query with its own rows.

        Args:
            queries: float32 [n, dim], unit rows.
            rows: row numbers, int64 [n, m].

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
