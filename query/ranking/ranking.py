"""Ranks a gallery's pictures for the examples of a question, under one condition or several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexes.search.open_table import OpenTable
from indexes.vectors import Vectors
from query.hits import ConditionScore
from query.ranking.combination import ScoreCombination, combine_examples

#: Rows of a table; which rows of a table; scores; rows with their scores, best first.
RowNumbers = NDArray[np.int64]
RowMask = NDArray[np.bool_]
Scores = NDArray[np.floating]
Scored = tuple[NDArray[np.int64], NDArray[np.float32]]


class Ranking(ABC):
    """Pictures in order of their scores. Rows are those of the first condition's table."""

    def __init__(self, table: OpenTable):
        """Store the arguments; nothing is ranked yet.

        Args:
            table: the table of the rows.
        """
        self.table = table

    @abstractmethod
    def best(self, k: int, allowed: RowMask | None, excluded: frozenset[int]) -> Scored:
        """The ``k`` pictures with the highest scores, equal ones in key order.

        Args:
            k: how many; there may be fewer.
            allowed: bool [rows], the rows that may be returned; ``None`` for all.
            excluded: rows that are never returned: those of the examples.

        Returns:
            Rows int64 [found] and scores float32 [found], best first.
        """

    def percentiles(self, rows: RowNumbers, scores: Scores) -> NDArray[np.float64]:
        """Share of the gallery's pairs with a lower score than these pictures, in percent.

        Args:
            rows: int64 [n], of pictures that :meth:`best` returned last.
            scores: [n], their scores.
        """
        return self.table.percentiles(scores)

    def parts(self, row: int) -> tuple[ConditionScore, ...]:
        """A returned picture's score under each condition; empty if there is one condition."""
        return ()

    def word(self, row: int) -> tuple[str, float]:
        """The word for a picture, and its probability."""
        return self.table.words[row], float(self.table.word_probabilities[row])


def condition_score(
    table: OpenTable, row: int, score: float, weight: float = 1.0
) -> ConditionScore:
    """A picture's score under one condition by one method."""
    return ConditionScore(
        condition=table.table.name,
        weight=weight,
        score=score,
        percentile=float(table.percentiles(np.array([score]))[0]),
        word=table.words[row],
        method=str(table.table.made_by.get("method", "")),
    )


class ConditionRanking(Ranking):
    """The ranking under one condition, by cosines, from an index where it is exact enough."""

    def __init__(self, table: OpenTable, examples: Vectors, combine: str):
        """Store the arguments; nothing is compared yet.

        Args:
            table: the condition's table.
            examples: float32 [examples, dim], unit rows.
            combine: one of :data:`query.question.COMBINE`.
        """
        super().__init__(table)
        self._examples = examples
        self._combine = combine

    def best(self, k: int, allowed: RowMask | None, excluded: frozenset[int]) -> Scored:
        """See :meth:`Ranking.best`."""
        mean = self._examples.mean(axis=0, keepdims=True)
        length = np.float32(np.linalg.norm(mean))
        if (self._combine != "mean" and len(self._examples) > 1) or length < 1e-6:
            scores = combine_examples(self.table.scores(self._examples), self._combine)
            return best_rows(scores, k, allowed, excluded)
        # The mean of cosines is the cosine with the mean vector, times that vector's length.
        query = self._examples if len(self._examples) == 1 else mean / length
        rows, scores = self.table.search(query, k + len(excluded), allowed)
        kept = [i for i, row in enumerate(rows[0]) if row >= 0 and row not in excluded][:k]
        cosines = scores[0, kept]
        return rows[0, kept], cosines if len(self._examples) == 1 else cosines * length


class CombinedRanking(Ranking):
    """The ranking under several conditions, by the total of :mod:`query.ranking.combination`."""

    def __init__(self, combination: ScoreCombination, examples: Sequence[Vectors], combine: str):
        """Compare the examples with all pictures.

        Args:
            combination: the conditions.
            examples: float32 [examples, dim] for each condition, unit rows.
            combine: one of :data:`query.question.COMBINE`.
        """
        super().__init__(combination.tables[0])
        self._combination = combination
        self._combine = combine
        self._cosines = [
            table.scores(vectors)[:, rows]
            for table, vectors, rows in zip(
                combination.tables, examples, combination.rows, strict=True
            )
        ]
        self._total = combine_examples(combination.total(self._cosines), combine)

    def best(self, k: int, allowed: RowMask | None, excluded: frozenset[int]) -> Scored:
        """See :meth:`Ranking.best`."""
        first = self._combination.rows[0]
        found_positions = map(self._combination.position, excluded)
        positions = frozenset(one for one in found_positions if one is not None)
        mask = None if allowed is None else allowed[first]
        found, scores = best_rows(self._total, k, mask, positions)
        return first[found], scores

    def percentiles(self, rows: RowNumbers, scores: Scores) -> NDArray[np.float64]:
        """See :meth:`Ranking.percentiles`."""
        return self._combination.percentiles(scores)

    def parts(self, row: int) -> tuple[ConditionScore, ...]:
        """See :meth:`Ranking.parts`."""
        combination, found = self._combination, []
        position = combination.position(row)
        assert position is not None, "a row that this ranking did not return"
        for table, weight, cosines, rows in zip(
            combination.tables, combination.weights, self._cosines, combination.rows, strict=True
        ):
            score = combine_examples(cosines[:, position : position + 1], self._combine)
            found.append(condition_score(table, int(rows[position]), float(score[0]), weight))
        return tuple(found)


def best_rows(
    scores: NDArray[np.float32], k: int, allowed: RowMask | None, excluded: frozenset[int]
) -> Scored:
    """The rows of the ``k`` highest scores, equal ones in row order; see :meth:`Ranking.best`."""
    candidates = np.ones(len(scores), dtype=np.bool_) if allowed is None else allowed.copy()
    candidates[list(excluded)] = False
    rows = np.flatnonzero(candidates)
    if 0 < k < len(rows):
        # All rows at or above the k-th best score are sorted, so that ties end in row order.
        least = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        rows = rows[scores[rows] >= least]
    rows = rows[np.argsort(-scores[rows], kind="stable")[:k]]
    return rows, scores[rows]
