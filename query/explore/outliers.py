"""Finds outliers: pictures that are unlike even their nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexes.search.open_table import OpenTable

#: Nearest neighbours that a picture is compared with.
NEIGHBOURS = 10

#: Pictures searched for at once.
_BLOCK = 1024


@dataclass(frozen=True)
class Outlier:
    """A picture with its outlier score.

    Attributes:
        row: the row of the picture.
        score: its mean cosine with its nearest neighbours, -1 to 1; outliers have low scores.
    """

    row: int
    score: float


def outliers(
    open_table: OpenTable,
    k: int = 20,
    neighbours: int = NEIGHBOURS,
    allowed: NDArray[np.bool_] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Outlier]:
    """The pictures that are least similar to their nearest neighbours.

    The score of a picture x is (cos(x, n1) + ... + cos(x, nm)) / m over its m nearest neighbours
    other than itself: the mean distance to the k nearest neighbours (Angiulli and Pizzuti, "Fast
    outlier detection in high dimensional spaces", PKDD 2002), as a cosine. A picture with as many
    copies as ``neighbours`` is no outlier, however unusual they all are.

    Args:
        open_table: the condition's.
        k: how many.
        neighbours: m; all other pictures if there are fewer.
        allowed: bool [size], the pictures to compare with each other; all by default.
        progress: called with the number of pictures done and the number of all.

    Returns:
        Lowest score first, ties in row order; none if there are fewer than two pictures.
    """
    rows = np.arange(len(open_table)) if allowed is None else np.flatnonzero(allowed)
    count = min(neighbours, len(rows) - 1)
    if count < 1:
        return []
    score = np.empty(len(rows), dtype=np.float64)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        found, cosines = open_table.search(open_table.vectors(block), count + 1, allowed)
        # A picture finds itself, first or among its copies; if an index misses it, there is one
        # neighbour too many.
        other = (found != block[:, None]) & (found >= 0)
        other &= np.cumsum(other, axis=1) <= count
        total = np.where(other, cosines, 0).sum(1, dtype=np.float64)
        score[start : start + _BLOCK] = total / np.maximum(other.sum(1), 1)
        progress(min(start + _BLOCK, len(rows)), len(rows))
    lowest = np.argsort(score, kind="stable")[:k]
    return [Outlier(int(rows[at]), float(score[at])) for at in lowest]
