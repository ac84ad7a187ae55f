"""Several methods as one ranking: reciprocal rank fusion.

Each method m ranks all pictures that may be found; with rank_m(x) from 1, the score of a picture is

    F(x) = sum over m of 1 / (60 + rank_m(x))

(Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual rank
learning methods", SIGIR 2009, with their constant 60). Cosines of different methods cannot be
added; their ranks can. The rankings are whole, not cut at a depth, so that the answer is exact.
Equal likenesses rank in the order of keys. Of n methods the score is at most n / 61, and says
nothing of how alike a picture is; its percentile does: the mean over the methods of the share of
the gallery's pairs that are less alike under each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexes.search.open_table import OpenTable
from query.hits import ConditionScore
from query.ranking.combination import common_rows
from query.ranking.ranking import Ranking, part_of

#: As published.
CONSTANT = 60


class FusedRanking:
    """Several rankings as one, over the pictures that all of them know.

    Attributes:
        table: the first ranking's, whose rows are meant.
        rows: int64 [rankings, n], where each picture that all know stands in each table.
        places: int64 [rows of the first table], which of those n it is, -1 for none.
        tables: of all rankings.
        left_out: pictures of that table which another method does not know.
    """

    def __init__(self, rankings: Sequence[Ranking]):
        """Compare nothing yet.

        Args:
            rankings: one a method, at least two.
        """
        self._rankings = tuple(rankings)
        self.table = rankings[0].table
        self.rows = common_rows([ranking.table for ranking in rankings])
        count = self.rows.shape[1]
        self.left_out = len(self.table) - count
        self.tables = [ranking.table for ranking in rankings]
        self._places = [_places(r.table, rows) for r, rows in zip(rankings, self.rows, strict=True)]
        self.places = self._places[0]
        self._scores = np.full((len(rankings), count), np.nan, dtype=np.float32)

    def best(
        self, k: int, allowed: NDArray[np.bool_] | None, own: frozenset[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See :meth:`Ranking.best`."""
        first = self.rows[0]
        open_to = np.ones(len(self.table), dtype=np.bool_) if allowed is None else allowed.copy()
        open_to[list(own)] = False
        among = open_to[first]
        fused = np.full(len(first), -np.inf)
        fused[among] = 0.0
        count = int(among.sum())
        gains = 1.0 / (CONSTANT + np.arange(1, count + 1))
        for number, ranking in enumerate(self._rankings):
            mask = np.zeros(len(ranking.table), dtype=np.bool_)
            mask[self.rows[number][among]] = True
            rows, scores = ranking.best(count, mask, frozenset())
            places = self._places[number][rows]
            self._scores[number, places] = scores
            fused[places] += gains[: len(places)]
        # In float64: far down, neighbours' sums differ by less than float32 can hold.
        order = np.flatnonzero(among)[np.argsort(-fused[among], kind="stable")[:k]]
        return first[order], fused[order].astype(np.float32)

    def percentiles(
        self, rows: NDArray[np.int64], scores: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """See :meth:`Ranking.percentiles`: the mean of the methods'."""
        places = self._places[0][rows]
        each = [
            ranking.percentiles(self.rows[number][places], self._scores[number, places])
            for number, ranking in enumerate(self._rankings)
        ]
        return np.asarray(np.mean(each, axis=0), dtype=np.float64)

    def parts(self, row: int) -> tuple[ConditionScore, ...]:
        """See :meth:`Ranking.parts`: what each method says, by each condition."""
        place = int(self._places[0][row])
        found: list[ConditionScore] = []
        for number, ranking in enumerate(self._rankings):
            own = int(self.rows[number][place])
            parts = ranking.parts(own)
            score = float(self._scores[number, place])
            found += parts or (part_of(ranking.table, own, score),)
        return tuple(found)

    def word(self, row: int) -> tuple[str, float]:
        """The first method's word that is one."""
        place = int(self._places[0][row])
        said = [r.word(int(rows[place])) for r, rows in zip(self._rankings, self.rows, strict=True)]
        return next((one for one in said if one[0]), said[0])


def _places(table: OpenTable, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each row of a table among the common ones: int64, -1 for those that are not."""
    places = np.full(len(table), -1, dtype=np.int64)
    places[rows] = np.arange(len(rows))
    return places
