"""Finds near-duplicates: pictures that are more alike than different pictures ever are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.search.open_table import OpenTable
from indexes.vectors import Vectors

#: The cosine, under every given condition, from which two pictures count as near-duplicates.
#: Measured with the built-in models: at least 95 % of pictures saved again as JPEG with 90 %
#: quality reach it under all of seven conditions. Of 3,333 rendered pictures (7 conditions) and
#: photographs (3), no two different ones reach it (the closest have 0.978). Of 1,125 emoji (4
#: conditions), 22 groups do, each of nearly the same drawing.
THRESHOLD = 0.98

#: Rows compared with as many others at once: 16 MB of cosines.
_BLOCK = 2048

#: Rows from which the direction is estimated along which all are sorted.
_SAMPLE = 2000


def duplicate_groups(
    open_table: OpenTable | Sequence[OpenTable],
    threshold: float = THRESHOLD,
    allowed: NDArray[np.bool_] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[int]]:
    """Groups of near-duplicates: pictures that a chain of similar pairs connects.

    Two pictures are a pair if their cosine is at least ``threshold`` under every given table. All
    pairs are compared, in blocks, without an index. Rows are first sorted along one direction:
    two unit vectors with cosine t are sqrt(2 - 2t) apart, and their projections on the direction
    at most as far, so that blocks that are further apart need no comparison.

    Args:
        open_table: one condition's, or those of several with the same keys.
        threshold: the least cosine of a pair, above 0 and at most 1.
        allowed: bool [size], the rows that may be in a group; all by default.
        progress: called with the number of blocks compared so far and the number of all blocks.

    Returns:
        Groups of two rows or more, each in ascending order, largest first.

    Raises:
        UsageError: if the threshold is not above 0 and at most 1.
        ValueError: if the tables do not have the same keys.
    """
    if not 0 < threshold <= 1:
        raise UsageError(
            f"A threshold is a cosine above 0 and at most 1, not {threshold:g}; "
            f"{THRESHOLD:g} is the usual one."
        )
    tables = [open_table] if isinstance(open_table, OpenTable) else list(open_table)
    keys = tables[0].keys
    if any(list(table.keys) != list(keys) for table in tables[1:]):
        raise ValueError("tables that are compared together must have the same keys")
    rows = np.arange(len(keys)) if allowed is None else np.flatnonzero(allowed)
    sets = _DisjointSets(len(keys))
    for first, second in _pairs(tables, rows, threshold, progress):
        sets.join(first, second)
    return sets.groups()


def _pairs(
    tables: Sequence[OpenTable],
    rows: NDArray[np.int64],
    threshold: float,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs of similar rows, block by block: int64 [pairs], twice."""
    if len(rows) < 2:
        return
    positions = _positions(tables[0], rows)
    order = np.argsort(positions, kind="stable")
    rows, positions = rows[order], positions[order]
    # Rounding in float32 must not hide a pair exactly on the threshold.
    reach = float(np.sqrt(max(0.0, 2 - 2 * threshold))) + 1e-3
    starts = range(0, len(rows), _BLOCK)
    for done, start in enumerate(starts, start=1):
        block = rows[start : start + _BLOCK]
        vectors = [table.vectors(block) for table in tables]
        last = positions[start : start + _BLOCK][-1]
        for other in range(start, len(rows), _BLOCK):
            if positions[other] - last > reach:
                break
            others = rows[other : other + _BLOCK]
            similar = _similar(tables, vectors, others, threshold)
            if other == start:
                similar = np.triu(similar, 1)
            first, second = np.nonzero(similar)
            if len(first):
                yield block[first], others[second]
        progress(done, len(starts))


def _similar(
    tables: Sequence[OpenTable],
    vectors: Sequence[Vectors],
    others: NDArray[np.int64],
    threshold: float,
) -> NDArray[np.bool_]:
    """Which pairs reach the threshold under every table: bool [vectors, others]."""
    similar = np.ones((len(vectors[0]), len(others)), dtype=bool)
    for table, own in zip(tables, vectors, strict=True):
        # Rounding may make the cosine of equal vectors slightly less than 1.
        similar &= own @ table.vectors(others).T >= threshold - 1e-6
        if not similar.any():
            break
    return similar


def _positions(table: OpenTable, rows: NDArray[np.int64]) -> Vectors:
    """Each row's position along the direction of the largest variance: float32 [n]."""
    chosen = rows[:: max(1, len(rows) // _SAMPLE)]
    sample = table.vectors(chosen)
    direction = np.linalg.svd(sample - sample.mean(0), full_matrices=False)[2][0]
    ends = [*range(0, len(rows), _BLOCK), len(rows)]
    return np.concatenate([table.vectors(rows[a:b]) @ direction for a, b in pairwise(ends)])


class _DisjointSets:
    """Rows joined into sets: each row refers to another of its set, one row of each is the root."""

    def __init__(self, size: int):
        self._root = np.arange(size)

    def join(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        """Join the pairs (first[i], second[i]) of rows, int64 [pairs], all at once."""
        while True:
            one, other = self._root[first], self._root[second]
            apart = one != other
            if not apart.any():
                return
            one, other = one[apart], other[apart]
            first, second = first[apart], second[apart]
            # Each larger root refers to the smallest of its partners; pairs that are then still in
            # different sets are joined in the next round.
            np.minimum.at(self._root, np.maximum(one, other), np.minimum(one, other))
            while True:
                higher = self._root[self._root]
                if np.array_equal(higher, self._root):
                    break
                self._root = higher

    def groups(self) -> list[list[int]]:
        """Sets of two rows or more, largest first, then by their first row."""
        order = np.argsort(self._root, kind="stable")
        cuts = np.flatnonzero(np.diff(self._root[order])) + 1
        found = [rows.tolist() for rows in np.split(order, cuts) if len(rows) > 1]
        return sorted(found, key=lambda rows: (-len(rows), rows[0]))
