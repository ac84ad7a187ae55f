"""Predicts a large model's ranking of all pictures from those that it has embedded so far.

A ridge regression is fitted for every question in milliseconds. It maps the vectors of cheap
methods to the logarithm of the rank that the large model gave a picture. The target is the rank
and not the cosine: where a condition has few values, a cosine says little more than which value a
picture has, and the nearest ten are decided by the rest.

With x_t the vector of a picture in table t less the mean of the embedded pictures, s_t^2 the mean
squared length of these vectors and w_t the weight of the table, the kernel of two pictures is

    k(x, x') = ( sum_t  w_t x_t . x'_t / s_t^2 ) / ( sum_t w_t )

and with K the kernel matrix of the n embedded pictures, y_i = -ln(rank of i) and m the mean of y,

    prediction(x) = m + k(x, embedded) (K + 0.5 I)^-1 (y - m).

As k is linear, all pictures of a gallery are predicted by one product of a matrix and a vector for
each table. Choosing the next candidates from the large model's ranking of the last ones is
adaptive reranking (MacAvaney, Tonellotto and Macdonald, CIKM 2022, who follow nearest neighbours
in place of a regression).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexes.search.open_table import OpenTable

#: Added to the kernel's diagonal, whose mean is 1. Measured in docs/query.md.
_RIDGE = 0.5

#: The most pictures that are fitted to, the large model's best: the cost is the cube of their
#: number.
_FITTED = 500


class RankRegression:
    """Predicts a large model's ranking from the vectors of several tables of the same pictures."""

    def __init__(
        self, tables: Sequence[OpenTable], rows: NDArray[np.int64], weights: Sequence[float]
    ):
        """Store the arguments; nothing is fitted yet.

        Args:
            tables: whose vectors are the features.
            rows: int64 [tables, n], the row of each picture in each table.
            weights: above 0, one for each table.
        """
        self._tables = tuple(tables)
        self._rows = rows
        self._weights = tuple(weights)

    def predict(self, embedded: NDArray[np.int64]) -> NDArray[np.float64]:
        """The negative logarithm of each picture's rank: at most 0, higher is better.

        Args:
            embedded: int64 [m], positions 0 to n - 1 of the pictures that the large model has
                embedded, in its order, at least one.

        Returns:
            float64 [n]; all equal where nothing can be predicted, as when all embedded pictures
            have the same vectors.
        """
        embedded = embedded[:_FITTED]
        targets = -np.log(np.arange(1, len(embedded) + 1))
        parts = []
        for table, rows, weight in zip(self._tables, self._rows, self._weights, strict=True):
            vectors = table.vectors(rows[embedded]).astype(np.float64)
            mean = vectors.mean(axis=0)
            vectors -= mean
            spread = float(np.mean(np.sum(vectors**2, axis=1)))
            if spread > 1e-12:
                parts.append((table, rows, mean, vectors, weight / spread))
        predicted = np.full(self._rows.shape[1], targets.mean())
        if not parts:
            return predicted
        weights = sum(self._weights)
        kernel = sum(scale * (vectors @ vectors.T) for _, _, _, vectors, scale in parts) / weights
        identity = np.eye(len(embedded))
        solved = np.linalg.solve(kernel + _RIDGE * identity, targets - targets.mean())
        for table, rows, mean, vectors, scale in parts:
            slope = (scale / weights) * (solved @ vectors)
            scores = table.scores(slope[None].astype(np.float32))[0]
            predicted += scores[rows] - slope @ mean
        return predicted
