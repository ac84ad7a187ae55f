"""The best of a view in the order of a large model, which embeds those few and no others.

A view orders the whole gallery at once; a model that is asked about each picture orders it better
and takes long. So ``n`` candidates are embedded under the condition by that model, kept in the
gallery in a table that is marked as partial, and put in the order of their cosines with the query
in it; behind them the others follow as the view has them. A later search finds what was embedded
and embeds only what is missing.

The candidates are the best of three rankings fused (:mod:`query.fusion`): by the view, by another
view of the same words, and by the base vectors themselves. A view keeps what words tell apart, and
some of what a large model goes by has no words; docs/query.md has what each finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from query.hits import Part
from query.ranking import Ranking, part_of


class Reranked:
    """The best of one ranking in the order of another.

    Attributes:
        table: the first ranking's, whose rows are meant.
        reranked: how many pictures were put in the other order last.
    """

    def __init__(
        self,
        first: Ranking,
        candidates: Ranking,
        count: int,
        again: Callable[[Sequence[str]], Ranking | None],
    ):
        """Rank nothing yet.

        Args:
            first: of all pictures.
            candidates: whose best are ranked again; of the same rows.
            count: how many.
            again: gives the other ranking, over a table that has as many of these keys as can be
                had; ``None`` if it cannot be had at all.
        """
        self.table = first.table
        self.reranked = 0
        self._first = first
        self._candidates = candidates
        self._count = count
        self._again = again
        self._second: Ranking | None = None
        self._asked: list[str] = []
        self._scores: dict[int, float] = {}
        self._there: dict[int, tuple[int, float]] = {}

    def best(
        self, k: int, allowed: NDArray[np.bool_] | None, own: frozenset[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See :meth:`Ranking.best`; those that were not ranked again keep their first score."""
        head = self._candidates.best(self._count, allowed, own)[0].tolist()
        # Those that are ranked again may stand anywhere in the first ranking.
        rows, scores = self._first.best(len(self.table), allowed, own)
        self._scores = dict(zip(rows.tolist(), scores.tolist(), strict=True))
        keys = [self.table.keys[row] for row in head]
        if keys and keys != self._asked:
            self._asked, self._second = keys, self._again(keys)
        second = self._second
        self._there = {}
        if second is None or not keys:
            return rows[:k], scores[:k]
        others = [second.table.row(key) for key in keys]
        here = {o: row for o, row in zip(others, head, strict=True) if o is not None}
        mask = np.zeros(len(second.table), dtype=np.bool_)
        mask[list(here)] = True
        found, again = second.best(len(here), mask, frozenset())
        for row, score in zip(found.tolist(), again.tolist(), strict=True):
            self._there[here[row]] = row, score
        self.reranked = len(self._there)
        rest = (row for row in rows.tolist() if row not in self._there)
        order = [*self._there, *rest][:k]
        given = [self._there[r][1] if r in self._there else self._scores[r] for r in order]
        return np.array(order, dtype=np.int64), np.array(given, dtype=np.float32)

    def percentiles(
        self, rows: NDArray[np.int64], scores: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """See :meth:`Ranking.percentiles`: of the first ranking, which knows the whole gallery."""
        first = np.array([self._scores[row] for row in rows.tolist()], dtype=np.float32)
        return self._first.percentiles(rows, first)

    def parts(self, row: int) -> tuple[Part, ...]:
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
