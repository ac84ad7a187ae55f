"""Puts the best hits of a projection in the order of a large model, which embeds only these.

A projection ranks the whole gallery at once. A large model that looks at each picture ranks better
and takes long. So ``n`` candidates are embedded under the condition by that model, stored in the
gallery in a table that is marked as partial, and ranked by their cosines with the query in that
table. All other pictures follow in the order of the projection. A later search uses what was
embedded and embeds only what is missing.

The first fifth of the candidates are the best of three fused rankings
(:mod:`query.ranking.fusion`): by the projection, by another projection fitted to the same words,
and by the base vectors. The others are chosen in rounds of a twentieth. In each round a regression
is fitted to the large model's ranking of all that it has embedded so far, in this question or an
earlier one (:mod:`query.ranking.rank_regression`), and the best by the predicted and the fused
rank come next,

    1 / (60 + predicted rank) + 0.5 / (60 + fused rank).

A picture that was embedded before has the large model's rank in place of a predicted one and is a
candidate like any other, so that a condition that is asked often takes few passes of the model.
Projections represent what words can distinguish, and much of what a large model sees has no words;
docs/query.md compares what each way finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from query.hits import ConditionScore
from query.ranking.fusion import CONSTANT, FusedRanking
from query.ranking.rank_regression import RankRegression
from query.ranking.ranking import (
    Ranking,
    RowMask,
    RowNumbers,
    Scored,
    Scores,
    condition_score,
)

#: Shares of the candidates that are chosen first and in each round, and the fewest of each: a
#: round takes as long as several passes of the model, whatever it finds.
_FIRST, _ROUND, _FIRST_LEAST, _ROUND_LEAST = 0.2, 0.05, 20, 10

#: Weight of a fused rank relative to a predicted one.
_FUSED = 0.5

#: Weight of a projection's vectors relative to the base vectors in the regression.
_PROJECTION_WEIGHT = 0.2


class RerankedRanking(Ranking):
    """A ranking whose best pictures are in the order of another one.

    Attributes:
        table: the first ranking's table, whose rows are returned.
        reranked: how many pictures the last call of :meth:`best` put in the other order.
    """

    def __init__(
        self,
        first: Ranking,
        candidates: FusedRanking,
        count: int,
        rerank: Callable[[Sequence[str], int], Ranking | None],
    ):
        """Store the arguments; nothing is ranked yet.

        Args:
            first: the first ranking, of all pictures.
            candidates: chooses the first candidates; of the same rows, the base vectors' ranking
                last.
            count: how many candidates.
            rerank: given the keys of all candidates so far and how many there will be, returns
                the other ranking. Its table has as many of these pictures as can be embedded and
                all that were embedded before. ``None`` if no such ranking is available.
        """
        super().__init__(first.table)
        self.reranked = 0
        self._first = first
        self._candidates = candidates
        self._count = count
        self._rerank = rerank
        self._reranker: Ranking | None = None
        self._last_order: RowNumbers | None = None
        self._picked: RowNumbers = np.zeros(0, dtype=np.int64)
        #: Row to score in the first ranking; row to row and score in the other one.
        self._scores: dict[int, float] = {}
        self._reranked: dict[int, tuple[int, float]] = {}

    def best(self, k: int, allowed: RowMask | None, excluded: frozenset[int]) -> Scored:
        """See :meth:`Ranking.best`; pictures that are not reranked keep their first score."""
        order = self._candidates.best(len(self.table), allowed, excluded)[0]
        # Reranked pictures may come from anywhere in the first ranking, so all of it is needed.
        rows, scores = self._first.best(len(self.table), allowed, excluded)
        self._scores = dict(zip(rows.tolist(), scores.tolist(), strict=True))
        if self._last_order is None or not np.array_equal(order, self._last_order):
            self._last_order = order
            self._picked, self._reranker = self._choose(order)
        reranker = self._reranker
        self._reranked = {}
        if reranker is None:
            return rows[:k], scores[:k]
        reranker_rows = [reranker.table.row(key) for key in self._keys(self._picked)]
        pairs = zip(reranker_rows, self._picked.tolist(), strict=True)
        row_of = {reranker_row: row for reranker_row, row in pairs if reranker_row is not None}
        mask = np.zeros(len(reranker.table), dtype=np.bool_)
        mask[list(row_of)] = True
        found, new_scores = reranker.best(len(row_of), mask, frozenset())
        for reranker_row, score in zip(found.tolist(), new_scores.tolist(), strict=True):
            self._reranked[row_of[reranker_row]] = reranker_row, score
        self.reranked = len(self._reranked)
        rest = (row for row in rows.tolist() if row not in self._reranked)
        best = [*self._reranked, *rest][:k]
        best_scores = [
            self._reranked[row][1] if row in self._reranked else self._scores[row] for row in best
        ]
        return np.array(best, dtype=np.int64), np.array(best_scores, dtype=np.float32)

    def _choose(self, order: RowNumbers) -> tuple[RowNumbers, Ranking | None]:
        """The candidates, and the other ranking with these candidates in it.

        Args:
            order: int64 [n], all rows that may be returned, best first.
        """
        count = min(self._count, len(order))
        picked = order[: max(_FIRST_LEAST, round(_FIRST * self._count))][:count]
        step = max(_ROUND_LEAST, round(_ROUND * self._count))
        reranker = self._rerank(self._keys(picked), count) if count else None
        while reranker is not None and len(picked) < count:
            best = self._next(order, picked, reranker)[: min(step, count - len(picked))]
            picked = np.concatenate([picked, best])
            reranker = self._rerank(self._keys(picked), count)
        return picked, reranker

    def _keys(self, rows: RowNumbers) -> list[str]:
        return [self.table.keys[row] for row in rows.tolist()]

    def _next(self, order: RowNumbers, picked: RowNumbers, reranker: Ranking) -> RowNumbers:
        """The rows that are not picked yet, best by predicted and fused rank first."""
        embedded = reranker.best(len(reranker.table), None, frozenset())[0]
        rows = [self.table.row(reranker.table.keys[row]) for row in embedded.tolist()]
        positions = self._candidates.positions[[row for row in rows if row is not None]]
        positions = positions[positions >= 0]
        if not len(positions):  # nothing could be embedded
            return order[len(picked) :]
        predicted = self._regression.predict(positions)
        predicted[positions] = -np.log(np.arange(1, len(positions) + 1))
        by_prediction = np.argsort(-predicted[self._candidates.positions[order]], kind="stable")
        score = _FUSED / (CONSTANT + np.arange(1, len(order) + 1))
        score[by_prediction] += 1 / (CONSTANT + np.arange(1, len(order) + 1))
        score[np.isin(order, picked)] = -1
        best = np.argsort(-score, kind="stable")[: len(order) - len(picked)]
        return order[best]

    @cached_property
    def _regression(self) -> RankRegression:
        tables = self._candidates.tables
        weights = [_PROJECTION_WEIGHT] * (len(tables) - 1) + [1.0]
        return RankRegression(tables, self._candidates.rows, weights)

    def percentiles(self, rows: RowNumbers, scores: Scores) -> NDArray[np.float64]:
        """See :meth:`Ranking.percentiles`: of the first ranking, which has the whole gallery."""
        first = np.array([self._scores[row] for row in rows.tolist()], dtype=np.float32)
        return self._first.percentiles(rows, first)

    def parts(self, row: int) -> tuple[ConditionScore, ...]:
        """See :meth:`Ranking.parts`: the scores by the projection and by the large model."""
        if row not in self._reranked or self._reranker is None:
            return ()
        reranker_row, score = self._reranked[row]
        return (
            condition_score(self.table, row, self._scores[row]),
            condition_score(self._reranker.table, reranker_row, score),
        )

    def word(self, row: int) -> tuple[str, float]:
        """The large model's word, or the first ranking's if it has none."""
        if row in self._reranked and self._reranker is not None:
            word = self._reranker.word(self._reranked[row][0])
            if word[0]:
                return word
        return self._first.word(row)
