"""Fuses several rankings into one by reciprocal rank fusion.

Each method m ranks all pictures that may be returned; with rank_m(x) from 1, a picture's score is

    F(x) = sum over m of 1 / (60 + rank_m(x))

(Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual rank
learning methods", SIGIR 2009, with their constant 60). Cosines of different methods cannot be
added; their ranks can. Whole rankings are fused, without a cut, so that the result is exact.
Pictures with equal scores are ranked in key order. With n methods the score is at most n / 61 and
does not say how alike a picture is. Its percentile does: the mean over the methods of the share of
the gallery's pairs that are less alike under each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexes.search.open_table import OpenTable
from query.hits import ConditionScore
from query.ranking.combination import common_rows
from query.ranking.ranking import (
    Ranking,
    RowMask,
    RowNumbers,
    Scored,
    Scores,
    condition_score,
)

#: The published constant.
CONSTANT = 60


class FusedRanking(Ranking):
    """Several rankings fused into one, over the pictures that all of them contain.

    Attributes:
        table: the first ranking's table, whose rows are returned.
        rows: int64 [rankings, n], the row of each common picture in each table.
        positions: int64 [rows of the first table], each row's position among these n, -1 for none.
        tables: the tables of all rankings.
        left_out: pictures of the first table that another table does not contain.
    """

    def __init__(self, rankings: Sequence[Ranking]):
        """Store the arguments; nothing is compared yet.

        Args:
            rankings: one for each method, at least two.
        """
        self._rankings = tuple(rankings)
        super().__init__(rankings[0].table)
        self.tables = [ranking.table for ranking in rankings]
        self.rows = common_rows(self.tables)
        count = self.rows.shape[1]
        self.left_out = len(self.table) - count
        self._positions = [
            _positions(table, rows) for table, rows in zip(self.tables, self.rows, strict=True)
        ]
        self.positions = self._positions[0]
        self._scores = np.full((len(rankings), count), np.nan, dtype=np.float32)

    def best(self, k: int, allowed: RowMask | None, excluded: frozenset[int]) -> Scored:
        """See :meth:`Ranking.best`."""
        first = self.rows[0]
        candidates = np.ones(len(self.table), dtype=np.bool_) if allowed is None else allowed.copy()
        candidates[list(excluded)] = False
        among = candidates[first]
        fused = np.full(len(first), -np.inf)
        fused[among] = 0.0
        count = int(among.sum())
        gains = 1.0 / (CONSTANT + np.arange(1, count + 1))
        for number, ranking in enumerate(self._rankings):
            mask = np.zeros(len(ranking.table), dtype=np.bool_)
            mask[self.rows[number][among]] = True
            rows, scores = ranking.best(count, mask, frozenset())
            positions = self._positions[number][rows]
            self._scores[number, positions] = scores
            fused[positions] += gains[: len(positions)]
        # In float64: at high ranks, neighbouring sums differ by less than float32 can represent.
        order = np.flatnonzero(among)[np.argsort(-fused[among], kind="stable")[:k]]
        return first[order], fused[order].astype(np.float32)

    def percentiles(self, rows: RowNumbers, scores: Scores) -> NDArray[np.float64]:
        """See :meth:`Ranking.percentiles`: the mean over the methods."""
        positions = self.positions[rows]
        each = [
            ranking.percentiles(self.rows[number][positions], self._scores[number, positions])
            for number, ranking in enumerate(self._rankings)
        ]
        return np.asarray(np.mean(each, axis=0), dtype=np.float64)

    def parts(self, row: int) -> tuple[ConditionScore, ...]:
        """See :meth:`Ranking.parts`: the scores by each method under each condition."""
        position = int(self.positions[row])
        found: list[ConditionScore] = []
        for number, ranking in enumerate(self._rankings):
            own_row = int(self.rows[number][position])
            score = float(self._scores[number, position])
            found += ranking.parts(own_row) or (condition_score(ranking.table, own_row, score),)
        return tuple(found)

    def word(self, row: int) -> tuple[str, float]:
        """The word of the first method that has one."""
        position = int(self.positions[row])
        pairs = zip(self._rankings, self.rows, strict=True)
        words = [ranking.word(int(rows[position])) for ranking, rows in pairs]
        return next((word for word in words if word[0]), words[0])


def _positions(table: OpenTable, rows: RowNumbers) -> RowNumbers:
    """Each row's position among the common rows: int64, -1 for none."""
    positions = np.full(len(table), -1, dtype=np.int64)
    positions[rows] = np.arange(len(rows))
    return positions
