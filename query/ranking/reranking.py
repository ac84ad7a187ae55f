"""The best of a view in the order of a large model, which embeds those few and no others.

A view orders the whole gallery at once; a model that is asked about each picture orders it better
and takes long. So ``n`` candidates are embedded under the condition by that model, kept in the
gallery in a table that is marked as partial, and put in the order of their cosines with the query
in it; behind them the others follow as the view has them. A later search finds what was embedded
and embeds only what is missing.

The first fifth of the candidates are the best of three rankings fused (:mod:`query.ranking.fusion`): by the
view, by another view of the same words, and by the base vectors themselves. The others are chosen
in rounds of a twentieth: what the large model says of all that it has embedded so far, in this
question or an earlier one, is learned from (:mod:`query.ranking.rank_regression`), and the best of the fused
ranking and of the learned one come next,

    1 / (60 + rank learned) + 0.5 / (60 + rank fused).

A picture that was embedded before has the rank that the large model gives it in place of a learned
one, and is a candidate like any other, so that a condition that was often asked for takes few
passes. A view keeps what words tell apart, and much of what a large model goes by has no words;
docs/query.md has what each way finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from query.hits import ConditionScore
from query.ranking.fusion import CONSTANT, FusedRanking
from query.ranking.rank_regression import RankRegression
from query.ranking.ranking import Ranking, part_of

#: Shares of the candidates that are chosen at first and in each round, and the fewest of each: a
#: round takes as long as some of the model's passes, whatever it finds.
_FIRST, _ROUND, _FIRST_LEAST, _ROUND_LEAST = 0.2, 0.05, 20, 10

#: What a fused rank counts beside a learned one.
_FUSED = 0.5

#: What the vectors of a view count beside the base vectors, where both are learned from.
_OF_VIEW = 0.2


class RerankedRanking:
    """The best of one ranking in the order of another.

    Attributes:
        table: the first ranking's, whose rows are meant.
        reranked: how many pictures were put in the other order last.
    """

    def __init__(
        self,
        first: Ranking,
        candidates: FusedRanking,
        count: int,
        again: Callable[[Sequence[str], int], Ranking | None],
    ):
        """Rank nothing yet.

        Args:
            first: of all pictures.
            candidates: which are ranked again, to begin with; of the same rows, that of the base
                vectors last.
            count: how many.
            again: gives the other ranking, over a table that has as many of these keys as can be
                had, and whatever was embedded before; ``None`` if it cannot be had at all. It is
                told all keys so far and how many there will be.
        """
        self.table = first.table
        self.reranked = 0
        self._first = first
        self._candidates = candidates
        self._count = count
        self._again = again
        self._second: Ranking | None = None
        self._asked: NDArray[np.int64] | None = None
        self._picked: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._scores: dict[int, float] = {}
        self._there: dict[int, tuple[int, float]] = {}

    def best(
        self, k: int, allowed: NDArray[np.bool_] | None, own: frozenset[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See :meth:`Ranking.best`; those that were not ranked again keep their first score."""
        order = self._candidates.best(len(self.table), allowed, own)[0]
        # Those that are ranked again may stand anywhere in the first ranking.
        rows, scores = self._first.best(len(self.table), allowed, own)
        self._scores = dict(zip(rows.tolist(), scores.tolist(), strict=True))
        if self._asked is None or not np.array_equal(order, self._asked):
            self._asked = order
            self._picked, self._second = self._chosen(order)
        second = self._second
        self._there = {}
        if second is None:
            return rows[:k], scores[:k]
        others = [second.table.row(key) for key in self._keys(self._picked)]
        pairs = zip(others, self._picked.tolist(), strict=True)
        here = {other: row for other, row in pairs if other is not None}
        mask = np.zeros(len(second.table), dtype=np.bool_)
        mask[list(here)] = True
        found, again = second.best(len(here), mask, frozenset())
        for row, score in zip(found.tolist(), again.tolist(), strict=True):
            self._there[here[row]] = row, score
        self.reranked = len(self._there)
        rest = (row for row in rows.tolist() if row not in self._there)
        shown = [*self._there, *rest][:k]
        given = [self._there[r][1] if r in self._there else self._scores[r] for r in shown]
        return np.array(shown, dtype=np.int64), np.array(given, dtype=np.float32)

    def _chosen(self, order: NDArray[np.int64]) -> tuple[NDArray[np.int64], Ranking | None]:
        """The candidates, and the other ranking when it has them.

        Args:
            order: int64 [n], all rows that may be found, best first.
        """
        count = min(self._count, len(order))
        picked = order[: max(_FIRST_LEAST, round(_FIRST * self._count))][:count]
        step = max(_ROUND_LEAST, round(_ROUND * self._count))
        second = self._again(self._keys(picked), count) if count else None
        while second is not None and len(picked) < count:
            best = self._next(order, picked, second)[: min(step, count - len(picked))]
            picked = np.concatenate([picked, best])
            second = self._again(self._keys(picked), count)
        return picked, second

    def _keys(self, rows: NDArray[np.int64]) -> list[str]:
        return [self.table.keys[row] for row in rows.tolist()]

    def _next(
        self, order: NDArray[np.int64], picked: NDArray[np.int64], second: Ranking
    ) -> NDArray[np.int64]:
        """The rows that are not picked yet, by what was learned and fused, best first."""
        known = second.best(len(second.table), None, frozenset())[0]
        rows = [self.table.row(second.table.keys[row]) for row in known.tolist()]
        places = self._candidates.places[[row for row in rows if row is not None]]
        seen = places[places >= 0]
        if not len(seen):  # none could be embedded
            return order[len(picked) :]
        guess = self._surrogate.guesses(seen)
        guess[seen] = -np.log(np.arange(1, len(seen) + 1))
        learned = np.argsort(-guess[self._candidates.places[order]], kind="stable")
        score = _FUSED / (CONSTANT + np.arange(1, len(order) + 1))
        score[learned] += 1 / (CONSTANT + np.arange(1, len(order) + 1))
        score[np.isin(order, picked)] = -1
        best = np.argsort(-score, kind="stable")[: len(order) - len(picked)]
        return order[best]

    @cached_property
    def _surrogate(self) -> RankRegression:
        tables = self._candidates.tables
        weights = [_OF_VIEW] * (len(tables) - 1) + [1.0]
        return RankRegression(tables, self._candidates.rows, weights)

    def percentiles(
        self, rows: NDArray[np.int64], scores: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """See :meth:`Ranking.percentiles`: of the first ranking, which knows the whole gallery."""
        first = np.array([self._scores[row] for row in rows.tolist()], dtype=np.float32)
        return self._first.percentiles(rows, first)

    def parts(self, row: int) -> tuple[ConditionScore, ...]:
        """See :meth:`Ranking.parts`: what the view says, and what the other does."""
        if row not in self._there or self._second is None:
            return ()
        other, score = self._there[row]
        return (
            part_of(self.table, row, self._scores[row]),
            part_of(self._second.table, other, score),
        )

    def word(self, row: int) -> tuple[str, float]:
        """The other ranking's word where it has one."""
        if row in self._there and self._second is not None:
            said = self._second.word(self._there[row][0])
            if said[0]:
                return said
        return self._first.word(row)
