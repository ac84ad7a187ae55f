"""Pictures that are nearly the same: alike beyond what different pictures are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from indexes.errors import UsageError
from indexes.search.open_table import OpenTable
from indexes.search.vectors import Vectors

#: Cosine, under every condition that is asked, from which two pictures count as the same one.
#: Measured with models of the built-in kind: of pictures saved again as JPEG, 90 % quality, 95 in
#: 100 and more reach it under all of seven conditions; of 3,333 rendered pictures (7 conditions)
#: and photographs (3) no two different ones do (the closest reach 0.978), but 22 groups among 1,125
#: emoji (4), of nearly one drawing each.
THRESHOLD = 0.98

#: Rows compared with as many others at once: 16 MB of cosines, however large the gallery is.
_BLOCK = 2048

#: Rows from which the direction is learnt along which they are sorted.
_SAMPLE = 2000


def duplicate_groups(
    open_table: OpenTable | Sequence[OpenTable],
    threshold: float = THRESHOLD,
    allowed: NDArray[np.bool_] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[int]]:
    """Groups of near-duplicates: pictures joined by a chain of pairs that are alike enough.

    Two pictures are a pair if their cosine is at least ``threshold`` under every table given. All
    pairs are compared, none by chance or by an index, in blocks. Rows are sorted along one
    direction first: two unit vectors whose cosine is t lie sqrt(2 - 2t) apart, and so do at most
    their projections, so that blocks further apart than that need no comparing.

    Args:
        open_table: one condition's, or those of several with the same keys.
        threshold: least cosine of a pair, above 0 and at most 1.
        allowed: bool [size], the rows that may be in a group; all by default.
        progress: told of the blocks of rows that were compared, and of how many there are.

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
    parts = _Parts(len(keys))
    for first, second in _pairs(tables, rows, threshold, progress):
        parts.join(first, second)
    return parts.groups()


def _pairs(
    tables: Sequence[OpenTable],
    rows: NDArray[np.int64],
    threshold: float,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs of rows that are alike enough, block by block: int64 [pairs] twice."""
    if len(rows) < 2:
        return
    places = _along(tables[0], rows)
    order = np.argsort(places, kind="stable")
    rows, places = rows[order], places[order]
    # Rounding in float32 must not hide a pair that lies exactly on the threshold.
    reach = float(np.sqrt(max(0.0, 2 - 2 * threshold))) + 1e-3
    starts = range(0, len(rows), _BLOCK)
    for done, start in enumerate(starts, start=1):
        block = rows[start : start + _BLOCK]
        own = [table.vectors(block) for table in tables]
        last = places[start : start + _BLOCK][-1]
        for other in range(start, len(rows), _BLOCK):
            if places[other] - last > reach:
                break
            against = rows[other : other + _BLOCK]
            alike = _alike(tables, own, against, threshold)
            if other == start:
                alike = np.triu(alike, 1)
            first, second = np.nonzero(alike)
            if len(first):
                yield block[first], against[second]
        progress(done, len(starts))


def _alike(
    tables: Sequence[OpenTable],
    own: Sequence[Vectors],
    against: NDArray[np.int64],
    threshold: float,
) -> NDArray[np.bool_]:
    """Which pairs reach the threshold under every table: bool [own rows, other rows]."""
    alike = np.ones((len(own[0]), len(against)), dtype=bool)
    for table, vectors in zip(tables, own, strict=True):
        # An equal pair's cosine may come out as one less a rounding or two.
        alike &= vectors @ table.vectors(against).T >= threshold - 1e-6
        if not alike.any():
            break
    return alike


def _along(table: OpenTable, rows: NDArray[np.int64]) -> Vectors:
    """Where each row lies along the direction in which the vectors differ most: float32 [n]."""
    chosen = rows[:: max(1, len(rows) // _SAMPLE)]
    sample = table.vectors(chosen)
    direction = np.linalg.svd(sample - sample.mean(0), full_matrices=False)[2][0]
    ends = [*range(0, len(rows), _BLOCK), len(rows)]
    return np.concatenate([table.vectors(rows[a:b]) @ direction for a, b in pairwise(ends)])


class _Parts:
    """Rows joined into parts: each knows another row of its part, and one row is the root."""

    def __init__(self, size: int):
        self._root = np.arange(size)

    def join(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        """Join pairs of rows, all at once."""
        while True:
            one, other = self._root[first], self._root[second]
            apart = one != other
            if not apart.any():
                return
            one, other = one[apart], other[apart]
            first, second = first[apart], second[apart]
            # The larger root hangs on the smaller; of several the smallest stays, and the rest
            # of the pairs are seen to in the next round.
            np.minimum.at(self._root, np.maximum(one, other), np.minimum(one, other))
            while True:
                higher = self._root[self._root]
                if np.array_equal(higher, self._root):
                    break
                self._root = higher

    def groups(self) -> list[list[int]]:
        """Parts of two rows or more, largest first, then by their first row."""
        order = np.argsort(self._root, kind="stable")
        cuts = np.flatnonzero(np.diff(self._root[order])) + 1
        found = [part.tolist() for part in np.split(order, cuts) if len(part) > 1]
        return sorted(found, key=lambda part: (-len(part), part[0]))
