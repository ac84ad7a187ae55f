"""What a large model will say of pictures that it has not seen, learned from those that it has.

A ridge regression, worked out anew for every question in milliseconds: from the vectors that the
rankings of a cheap method go by to the logarithm of the rank that the large model gave a picture.
The order is learned and not the cosine, since where a condition has few values the cosines say
little but which value a picture has, and the nearest ten are decided by what is left.

With x_t the vector of a picture in table t, less the mean of those that were seen, s_t^2 the mean
of its squared length over them and w_t the table's weight, the kernel of two pictures is

    k(x, x') = ( sum_t  w_t x_t . x'_t / s_t^2 ) / ( sum_t w_t )

and with K that of the n seen, y_i = -ln(rank of i) and m the mean of y,

    guess(x) = m + k(x, seen) (K + 0.5 I)^-1 (y - m).

As k is linear, all pictures of a gallery are guessed by one product of a matrix and a vector a
table. Asking for the next pictures by what the large model said of the last is adaptive re-ranking
(MacAvaney, Tonellotto and Macdonald, CIKM 2022, who follow neighbours in place of a regression).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexes.search.open_table import OpenTable

#: What is added to the kernel's diagonal, of mean 1. Measured in docs/query.md.
_RIDGE = 0.5

#: Pictures learned from at most, those that the large model has foremost: the fit takes the cube
#: of their number.
_LEARNED = 500


class RankRegression:
    """Guesses a large model's order from the vectors of several tables of the same pictures."""

    def __init__(
        self, tables: Sequence[OpenTable], rows: NDArray[np.int64], weights: Sequence[float]
    ):
        """Learn nothing yet.

        Args:
            tables: whose vectors are learned from.
            rows: int64 [tables, n], where each picture stands in each table.
            weights: above 0, one a table: how much each counts to begin with.
        """
        self._tables = tuple(tables)
        self._rows = rows
        self._weights = tuple(weights)

    def guesses(self, seen: NDArray[np.int64]) -> NDArray[np.float64]:
        """The logarithm of each picture's rank, less than 0 and higher for the more alike.

        Args:
            seen: int64 [m], places 0 to n - 1 of the pictures that the large model has seen, in
                its order, at least one.

        Returns:
            float64 [n]; where it can be told nothing, as where all seen are the same, all alike.
        """
        seen = seen[:_LEARNED]
        ranks = -np.log(np.arange(1, len(seen) + 1))
        parts = []
        for table, rows, weight in zip(self._tables, self._rows, self._weights, strict=True):
            vectors = table.vectors(rows[seen]).astype(np.float64)
            mean = vectors.mean(axis=0)
            vectors -= mean
            spread = float(np.mean(np.sum(vectors**2, axis=1)))
            if spread > 1e-12:
                parts.append((table, rows, mean, vectors, weight / spread))
        total = np.full(self._rows.shape[1], ranks.mean())
        if not parts:
            return total
        weights = sum(self._weights)
        kernel = sum(scale * (vectors @ vectors.T) for _, _, _, vectors, scale in parts) / weights
        solved = np.linalg.solve(kernel + _RIDGE * np.eye(len(seen)), ranks - ranks.mean())
        for table, rows, mean, vectors, scale in parts:
            slope = (scale / weights) * (solved @ vectors)
            total += table.scores(slope[None].astype(np.float32))[0][rows] - slope @ mean
        return total
