"""Combines the scores of several conditions into one: the formula, and its percentiles.

Cosines under two conditions cannot be added: under one condition all pairs of a gallery may lie
between 0.90 and 0.99, under another between -0.2 and 1. So each condition c is standardised by the
pairs of the gallery, with their mean m_c and standard deviation d_c,

    z_c(q, x) = (cos_c(q, x) - m_c) / d_c,

and the total of a picture x for an example q, with weights w of the conditions under which hits
must be alike and weights v of those under which they must differ, is

    T(q, x) = ( sum_c w_c z_c(q, x)  -  sum_n v_n max(0, z_n(q, x)) ) / sum_c w_c.

T is in standard deviations: 2 is a picture that lies 2 deviations above the gallery's pairs under
each wanted condition. Below the mean of a condition n, a picture is neither penalised nor
rewarded: otherwise a large weight would find the most contrary picture and no longer a similar
one. Measured (docs/query.md) against sums of raw cosines, percentiles and Fisher's sums of
logarithms of percentiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from indexes.search.open_table import OpenTable
from indexes.vectors import Vectors

#: Pictures sampled to estimate the scores of a gallery's pairs; all pairs of the sample are used.
_SAMPLE = 1000

#: Up to so many percentiles are counted; for more of them the totals of the pairs are sorted.
_FEW = 50

#: Deviations below this are taken for 1: all pairs are then equally alike.
_LEAST_DEVIATION = 1e-6


@dataclass(frozen=True)
class PairScores:
    """Cosines of the pairs of a sample of the gallery, the same pairs under each condition.

    Attributes:
        cosines: float32 [pairs] for each condition.
        means: their mean for each condition.
        deviations: their standard deviation for each condition.
    """

    cosines: Sequence[Vectors]
    means: Sequence[float]
    deviations: Sequence[float]

    @classmethod
    def of(cls, tables: Sequence[OpenTable], rows: NDArray[np.int64]) -> PairScores:
        """Compare a sample of the pictures.

        Args:
            tables: one for each condition.
            rows: int64 [conditions, n], the row of each picture in each table.
        """
        count = rows.shape[1]
        chosen = np.arange(count)
        if count > _SAMPLE:
            chosen = np.sort(np.random.default_rng(0).choice(count, _SAMPLE, replace=False))
        upper = np.triu_indices(len(chosen), 1)
        cosines = []
        for table, own in zip(tables, rows, strict=True):
            vectors = table.vectors(own[chosen])
            cosines.append((vectors @ vectors.T)[upper])
        deviations = [float(one.std()) if len(one) else 0.0 for one in cosines]
        means = [float(one.mean()) if len(one) else 0.0 for one in cosines]
        return cls(cosines, means, [d if d > _LEAST_DEVIATION else 1.0 for d in deviations])


class ScoreCombination:
    """The combined score of several conditions, over the pictures embedded under all of them.

    Attributes:
        tables: one for each condition.
        weights: one for each condition; above 0 if hits must be alike (at least one), below 0 if
            they must differ, none 0.
        rows: int64 [conditions, n], the row of each picture in each table.
        pairs: the scores of the gallery's pairs under each condition.
        left_out: pictures of the first table that are not embedded under all conditions.
    """

    def __init__(
        self,
        tables: Sequence[OpenTable],
        weights: Sequence[float],
        rows: NDArray[np.int64] | None = None,
        standardised: bool = True,
        pairs: PairScores | None = None,
    ):
        """Estimate the scores of the gallery's pairs.

        Args:
            tables: see above.
            weights: see above.
            rows: the :func:`common_rows` of the tables, if they are known.
            standardised: whether z is used; otherwise the cosines themselves, so that a condition
                under which a gallery hardly differs counts little, as composed queries need
                (:mod:`query.composers.dior`).
            pairs: the scores of the pairs under these tables, if they are known.
        """
        self.tables = tuple(tables)
        self.weights = tuple(weights)
        self.rows = common_rows(tables) if rows is None else rows
        self.left_out = len(tables[0]) - self.rows.shape[1]
        self._positive = sum(weight for weight in weights if weight > 0)
        self.pairs = PairScores.of(self.tables, self.rows) if pairs is None else pairs
        self._means, self._deviations = self.pairs.means, self.pairs.deviations
        if not standardised:
            self._means, self._deviations = [0.0] * len(tables), [1.0] * len(tables)

    def __len__(self) -> int:
        return int(self.rows.shape[1])

    def position(self, row: int) -> int | None:
        """The position in :attr:`rows` of a row of the first table; ``None`` if it is left out."""
        first = self.rows[0]  # ascending, as both are in key order
        at = int(np.searchsorted(first, row))
        return at if at < len(first) and first[at] == row else None

    def total(self, cosines: Sequence[Vectors]) -> NDArray[np.float32]:
        """The total T of a combination, as the module's docstring defines it.

        Args:
            cosines: float32, one array for each condition, all of the same shape.

        Returns:
            float32 of that shape.
        """
        total = np.zeros(cosines[0].shape, dtype=np.float32)
        for weight, cosine, mean, deviation in zip(
            self.weights, cosines, self._means, self._deviations, strict=True
        ):
            standard = (cosine - mean) / deviation
            if weight < 0:
                standard = np.maximum(standard, 0)
            total += np.float32(weight / self._positive) * standard
        return total

    def percentiles(self, totals: NDArray[np.floating]) -> NDArray[np.float64]:
        """Share of the gallery's pairs with lower totals than these, 0 to 100, in their shape."""
        if not len(self._totals):
            return np.zeros(np.shape(totals))
        # Values of another type would make NumPy convert all pairs.
        values = np.asarray(totals, dtype=self._totals.dtype)
        if values.size > _FEW:
            below = np.searchsorted(self._sorted_totals, values, side="left")
        else:
            counts = [np.count_nonzero(self._totals < value) for value in values.flat]
            below = np.array(counts, dtype=np.int64).reshape(values.shape)
        return 100.0 * below / len(self._totals)

    @cached_property
    def _totals(self) -> NDArray[np.float32]:
        return self.total(self.pairs.cosines)

    @cached_property
    def _sorted_totals(self) -> NDArray[np.float32]:
        return np.sort(self._totals)


def combine_examples(scores: Vectors, how: str) -> Vectors:
    """The scores of several examples as one.

    Args:
        scores: float32 [examples, n].
        how: ``mean``, ``any`` (the greatest) or ``all`` (the least).

    Returns:
        float32 [n].
    """
    if how == "any":
        return np.asarray(scores.max(axis=0), dtype=np.float32)
    if how == "all":
        return np.asarray(scores.min(axis=0), dtype=np.float32)
    return np.asarray(scores.mean(axis=0), dtype=np.float32)


def common_rows(tables: Sequence[OpenTable]) -> NDArray[np.int64]:
    """Rows of the pictures that all tables contain, in key order: int64 [tables, n]."""
    first, *others = (np.array(list(table.keys), dtype="S64") for table in tables)
    rows = [np.arange(len(first), dtype=np.int64)]
    common = first
    for keys in others:
        common, rows_before, rows_here = np.intersect1d(
            common, keys, assume_unique=True, return_indices=True
        )
        rows = [*(row[rows_before] for row in rows), rows_here.astype(np.int64)]
    return np.stack(rows)
