"""Several conditions as one likeness: the formula, and what a score under it means.

Cosines under two conditions cannot be added: under one, all pairs of a gallery lie between 0.90
and 0.99, under another between -0.2 and 1. So each condition c is standardised by the pairs of the
gallery, with their mean m_c and standard deviation d_c,

    z_c(q, x) = (cos_c(q, x) - m_c) / d_c,

and the total of a picture x for an example q, with the weights w of what shall be alike and v of
what shall differ, is

    T(q, x) = ( sum_c w_c z_c(q, x)  -  sum_n v_n max(0, z_n(q, x)) ) / sum_c w_c.

T is in standard deviations: 2 is a picture as far above the gallery's pairs as 2 deviations under
each wanted condition. A picture that differs in n is not punished and, below the mean, not
rewarded either: else a great weight would find the most contrary picture and no longer a like
one. Measured (docs/query.md) against sums of raw cosines, percentiles and Fisher's sums of
logarithms of percentiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexes.search.open_table import OpenTable
from indexes.search.vectors import Vectors

#: Pictures drawn to learn how alike the pairs of a gallery are; all their pairs are compared.
_SAMPLE = 1000

#: A condition under which all pairs are equally alike is not blown up.
_LEAST_DEVIATION = 1e-6


@dataclass(frozen=True)
class Term:
    """One condition of a question.

    Attributes:
        table: open for search.
        weight: above 0 for what shall be alike, below for what shall differ.
    """

    table: OpenTable
    weight: float


class ScoreCombination:
    """Several conditions as one likeness, over the pictures embedded under all of them.

    Attributes:
        terms: at least one of weight above 0; none of weight 0.
        rows: int64 [terms, n], where each picture stands in each table.
        left_out: pictures of the first table that are not embedded under all conditions.
    """

    def __init__(self, terms: Sequence[Term], rows: NDArray[np.int64], standardised: bool = True):
        """Learn how alike the pairs of the gallery are.

        Args:
            terms: see above.
            rows: of :func:`common_rows` of their tables.
            standardised: whether z is taken; else the cosines themselves, so that a condition
                under which a gallery hardly differs counts for little, which composed queries
                want (:mod:`query.composers.dior`).
        """
        self.terms = tuple(terms)
        self.rows = rows
        self.left_out = len(terms[0].table) - self.rows.shape[1]
        self._wanted = sum(term.weight for term in terms if term.weight > 0)
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
        """Cosines of the pairs among a sample, the same pairs under each condition."""
        count = len(self)
        chosen = np.arange(count)
        if count > _SAMPLE:
            chosen = np.sort(np.random.default_rng(0).choice(count, _SAMPLE, replace=False))
        upper = np.triu_indices(len(chosen), 1)
        found = []
        for term, rows in zip(self.terms, self.rows, strict=True):
            vectors = term.table.vectors(rows[chosen])
            found.append((vectors @ vectors.T)[upper])
        return found

    def total(self, cosines: Sequence[Vectors]) -> NDArray[np.float32]:
        """T of the module's formula.

        Args:
            cosines: one array a term, float32, all of one shape.

        Returns:
            float32 of that shape.
        """
        total = np.zeros(cosines[0].shape, dtype=np.float32)
        for term, cosine, mean, deviation in zip(
            self.terms, cosines, self._means, self._deviations, strict=True
        ):
            standard = (cosine - mean) / deviation
            if term.weight < 0:
                standard = np.maximum(standard, 0)
            total += np.float32(term.weight / self._wanted) * standard
        return total

    def percentiles(self, totals: NDArray[np.floating]) -> NDArray[np.float64]:
        """Share of the gallery's pairs whose total is lower than these, in percent."""
        if not len(self._totals):
            return np.zeros(np.shape(totals))
        return 100.0 * np.searchsorted(self._totals, totals, side="left") / len(self._totals)


def combined(likenesses: Vectors, how: str) -> Vectors:
    """Likenesses to several examples as one.

    Args:
        likenesses: float32 [examples, n].
        how: ``mean``, ``any`` (the greatest) or ``all`` (the least).

    Returns:
        float32 [n].
    """
    if how == "any":
        return np.asarray(likenesses.max(axis=0), dtype=np.float32)
    if how == "all":
        return np.asarray(likenesses.min(axis=0), dtype=np.float32)
    return np.asarray(likenesses.mean(axis=0), dtype=np.float32)


def common_rows(tables: Sequence[OpenTable]) -> NDArray[np.int64]:
    """Rows of the pictures that all tables hold, in key order: int64 [tables, n]."""
    first, *others = (np.array(list(table.keys), dtype="S64") for table in tables)
    rows = [np.arange(len(first), dtype=np.int64)]
    common = first
    for keys in others:
        common, kept, there = np.intersect1d(common, keys, assume_unique=True, return_indices=True)
        rows = [*(row[kept] for row in rows), there.astype(np.int64)]
    return np.stack(rows)
