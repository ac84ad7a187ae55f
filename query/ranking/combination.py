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

import numpy as np
from numpy.typing import NDArray

from indexes.search.open_table import OpenTable
from indexes.vectors import Vectors

#: Pictures sampled to estimate the scores of a gallery's pairs; all pairs of the sample are used.
_SAMPLE = 1000

#: Deviations below this are taken for 1: all pairs are then equally alike.
_LEAST_DEVIATION = 1e-6


class ScoreCombination:
    """The combined score of several conditions, over the pictures embedded under all of them.

    Attributes:
        tables: one for each condition.
        weights: one for each condition; above 0 if hits must be alike (at least one), below 0 if
            they must differ, none 0.
        rows: int64 [conditions, n], the row of each picture in each table.
        left_out: pictures of the first table that are not embedded under all conditions.
    """

    def __init__(
        self,
        tables: Sequence[OpenTable],
        weights: Sequence[float],
        rows: NDArray[np.int64] | None = None,
        standardised: bool = True,
    ):
        """Estimate the scores of the gallery's pairs.

        Args:
            tables: see above.
            weights: see above.
            rows: the :func:`common_rows` of the tables, if they are known.
            standardised: whether z is used; otherwise the cosines themselves, so that a condition
                under which a gallery hardly differs counts little, as composed queries need
                (:mod:`query.composers.dior`).
        """
        self.tables = tuple(tables)
        self.weights = tuple(weights)
        self.rows = common_rows(tables) if rows is None else rows
        self.left_out = len(tables[0]) - self.rows.shape[1]
        self._positive = sum(weight for weight in weights if weight > 0)
        pairs = self._pairs()
        deviations = [float(cosines.std()) if len(cosines) else 0.0 for cosines in pairs]
        self._means = [float(cosines.mean()) if len(cosines) else 0.0 for cosines in pairs]
        self._deviations = [d if d > _LEAST_DEVIATION else 1.0 for d in deviations]
        if not standardised:
            self._means, self._deviations = [0.0] * len(pairs), [1.0] * len(pairs)
        self._totals = np.sort(self.total(pairs))

    def __len__(self) -> int:
        return int(self.rows.shape[1])

    def _pairs(self) -> list[Vectors]:
        """Cosines of the pairs of a sample, the same pairs under each condition."""
        count = len(self)
        chosen = np.arange(count)
        if count > _SAMPLE:
            chosen = np.sort(np.random.default_rng(0).choice(count, _SAMPLE, replace=False))
        upper = np.triu_indices(len(chosen), 1)
        found = []
        for table, rows in zip(self.tables, self.rows, strict=True):
            vectors = table.vectors(rows[chosen])
            found.append((vectors @ vectors.T)[upper])
        return found

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
        return 100.0 * np.searchsorted(self._totals, totals, side="left") / len(self._totals)


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
