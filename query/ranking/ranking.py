"""Ranks a gallery's pictures for the examples of a question, under one condition or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from indexes.search.open_table import OpenTable
from indexes.search.vectors import Vectors
from query.hits import ConditionScore
from query.ranking.combination import ScoreCombination, combined


class Ranking(Protocol):
    """Pictures in the order of their likeness. Rows are those of the first condition's table."""

    @property
    def table(self) -> OpenTable:
        """Whose rows are meant."""
        ...

    def best(
        self, k: int, allowed: NDArray[np.bool_] | None, own: frozenset[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ``k`` most alike, equal ones in key order.

        Args:
            k: how many; fewer come back when there are fewer.
            allowed: bool [rows], those that may be found; ``None`` for all.
            own: rows of the examples themselves, which are never found.

        Returns:
            Rows int64 [found] and scores float32 [found], best first.
        """
        ...

    def percentiles(
        self, rows: NDArray[np.int64], scores: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Share of the gallery's pairs that are less alike than these pictures, in percent.

        Args:
            rows: int64 [n], some that were found last.
            scores: [n], theirs.
        """
        ...

    def parts(self, row: int) -> tuple[ConditionScore, ...]:
        """What each condition says of a picture that was found; nothing where there is only one."""
        ...

    def word(self, row: int) -> tuple[str, float]:
        """The word for a picture, and how sure it is."""
        ...


def part_of(table: OpenTable, row: int, score: float, weight: float = 1.0) -> ConditionScore:
    """What one condition says of a picture, by one method."""
    return ConditionScore(
        condition=table.table.name,
        weight=weight,
        score=score,
        percentile=float(table.percentiles(np.array([score]))[0]),
        word=table.words[row],
        method=str(table.table.made_by.get("method", "")),
    )


def word_of(table: OpenTable, row: int) -> tuple[str, float]:
    """The word that a table has for a picture, and how sure it is."""
    return table.words[row], float(table.word_probabilities[row])


class ConditionRanking:
    """Under one condition: the score is the cosine, by an index where that is exact enough."""

    def __init__(self, table: OpenTable, examples: Vectors, combine: str):
        """Compare nothing yet.

        Args:
            table: the condition.
            examples: float32 [examples, dim], unit rows.
            combine: one of :data:`query.question.COMBINE`.
        """
        self.table = table
        self._examples = examples
        self._combine = combine

    def best(
        self, k: int, allowed: NDArray[np.bool_] | None, own: frozenset[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See :meth:`Ranking.best`."""
        mean = self._examples.mean(axis=0, keepdims=True)
        length = np.float32(np.linalg.norm(mean))
        if (self._combine != "mean" and len(self._examples) > 1) or length < 1e-6:
            scores = combined(self.table.scores(self._examples), self._combine)
            return best_rows(scores, k, allowed, own)
        # The mean of cosines is the cosine with the mean vector, times that vector's length.
        query = self._examples if len(self._examples) == 1 else mean / length
        rows, scores = self.table.search(query, k + len(own), allowed)
        kept = [i for i, row in enumerate(rows[0]) if row >= 0 and row not in own][:k]
        cosines = scores[0, kept]
        return rows[0, kept], cosines if len(self._examples) == 1 else cosines * length

    def percentiles(
        self, rows: NDArray[np.int64], scores: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """See :meth:`Ranking.percentiles`."""
        return self.table.percentiles(scores)

    def parts(self, row: int) -> tuple[ConditionScore, ...]:
        """See :meth:`Ranking.parts`."""
        return ()

    def word(self, row: int) -> tuple[str, float]:
        """See :meth:`Ranking.word`."""
        return word_of(self.table, row)


class CombinedRanking:
    """Under several conditions: the score is the total of :mod:`query.ranking.combination`."""

    def __init__(self, mixture: ScoreCombination, examples: Sequence[Vectors], combine: str):
        """Compare the examples with all pictures.

        Args:
            mixture: the conditions.
            examples: float32 [examples, dim] for each, unit rows.
            combine: one of :data:`query.question.COMBINE`.
        """
        self.table = mixture.terms[0].table
        self._mixture = mixture
        self._combine = combine
        self._cosines = [
            term.table.scores(vectors)[:, rows]
            for term, vectors, rows in zip(mixture.terms, examples, mixture.rows, strict=True)
        ]
        self._total = combined(mixture.total(self._cosines), combine)
        self._place = {int(row): place for place, row in enumerate(mixture.rows[0])}

    def best(
        self, k: int, allowed: NDArray[np.bool_] | None, own: frozenset[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See :meth:`Ranking.best`."""
        first = self._mixture.rows[0]
        places = frozenset(self._place[row] for row in own if row in self._place)
        mask = None if allowed is None else allowed[first]
        found, scores = best_rows(self._total, k, mask, places)
        return first[found], scores

    def percentiles(
        self, rows: NDArray[np.int64], scores: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """See :meth:`Ranking.percentiles`."""
        return self._mixture.percentiles(scores)

    def parts(self, row: int) -> tuple[ConditionScore, ...]:
        """See :meth:`Ranking.parts`."""
        place = self._place[row]
        found = []
        for term, cosines, rows in zip(
            self._mixture.terms, self._cosines, self._mixture.rows, strict=True
        ):
            score = combined(cosines[:, place : place + 1], self._combine)
            found.append(part_of(term.table, int(rows[place]), float(score[0]), term.weight))
        return tuple(found)

    def word(self, row: int) -> tuple[str, float]:
        """See :meth:`Ranking.word`."""
        return word_of(self.table, row)


def best_rows(
    scores: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None, own: frozenset[int]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ``k`` highest of some scores, equal ones in row order."""
    open_to = np.ones(len(scores), dtype=np.bool_) if allowed is None else allowed.copy()
    open_to[list(own)] = False
    rows = np.flatnonzero(open_to)
    if 0 < k < len(rows):
        # The k-th best decides which ties are in; all at or above it are then sorted.
        least = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        rows = rows[scores[rows] >= least]
    rows = rows[np.argsort(-scores[rows], kind="stable")[:k]]
    return rows, scores[rows]
