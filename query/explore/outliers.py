"""Pictures that fit nowhere: far from even their nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexes.search.open_table import OpenTable

#: Nearest neighbours that a picture is compared with.
NEIGHBOURS = 10

#: Pictures asked for at once.
_BLOCK = 1024


@dataclass(frozen=True)
class Outlier:
    """A picture, and how alone it is.

    Attributes:
        row: of the picture.
        score: its mean cosine with its nearest neighbours, -1 to 1; the lower, the more alone.
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
    """The pictures whose neighbours are least like them.

    The score of a picture x is (cos(x, n1) + ... + cos(x, nm)) / m over its m nearest neighbours
    other than itself: the mean distance to the k nearest neighbours (Angiulli and Pizzuti, "Fast
    outlier detection in high dimensional spaces", PKDD 2002), as a cosine. A picture with as many
    copies as ``neighbours`` is no outlier, however odd they all are.

    Args:
        open_table: the condition's.
        k: how many.
        neighbours: m; all the others where there are fewer.
        allowed: bool [size], the pictures that are judged, among each other; all by default.
        progress: told of the pictures judged, and of how many there are.

    Returns:
        Lowest score first, ties in row order; none if there are not two pictures.
    """
    rows = np.arange(len(open_table)) if allowed is None else np.flatnonzero(allowed)
    count = min(neighbours, len(rows) - 1)
    if count < 1:
        return []
    score = np.empty(len(rows), dtype=np.float64)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        found, cosines = open_table.search(open_table.vectors(block), count + 1, allowed)
        # It finds itself, first or among its copies; an index that misses it gives one too many.
        other = (found != block[:, None]) & (found >= 0)
        other &= np.cumsum(other, axis=1) <= count
        total = np.where(other, cosines, 0).sum(1, dtype=np.float64)
        score[start : start + _BLOCK] = total / np.maximum(other.sum(1), 1)
        progress(min(start + _BLOCK, len(rows)), len(rows))
    lowest = np.argsort(score, kind="stable")[:k]
    return [Outlier(int(rows[place]), float(score[place])) for place in lowest]
