"""Rankings as groups of equal scores, which is all that metrics with ties need.

Candidates of equal score have no order. Every metric is the expectation over all orders within
such a group, each equally likely and independent of other groups. For each group with a right
answer it needs the number of candidates before the group, the number in it, and how many of those
are right. The chance level is the same expectation with all candidates tied, so every metric has
its exact chance level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.int64]
Gains = NDArray[np.float64]


@dataclass(frozen=True)
class Ranked:
    """The rankings of some queries, each with at least one right answer.

    Groups are ordered by query and then by falling score; groups without a right answer are left
    out.

    Attributes:
        query: int64 [groups], the query's number, from 0.
        before: int64 [groups], number of candidates with a higher score.
        size: int64 [groups], number of candidates with this score.
        right: int64 [groups], right answers among them, at least 1.
        gain: float64 [groups], sum of their gains.
        relevant: int64 [queries], R: all right answers, including those beyond a cut.
        others: int64 [queries], M: all candidates.
        reach: int64 [queries], number of known places, M unless the list was cut.
        ideal: float64 [queries, most], gains of all right answers, falling, padded with 0;
            ``None`` if every gain is 1.
    """

    query: Counts
    before: Counts
    size: Counts
    right: Counts
    gain: Gains
    relevant: Counts
    others: Counts
    reach: Counts
    ideal: Gains | None = None

    def __post_init__(self) -> None:
        if (self.relevant < 1).any():
            at = int(np.argmax(self.relevant < 1))
            raise ValueError(f"query {at} has no right answer, so that nothing can be measured")
        if (self.relevant > self.others).any() or (self.reach > self.others).any():
            raise ValueError("a query has fewer candidates than right answers or known places")

    def __len__(self) -> int:
        return len(self.relevant)

    @cached_property
    def right_before(self) -> Counts:
        """Right answers with a higher score: int64 [groups]."""
        passed = np.cumsum(self.right) - self.right
        first = np.searchsorted(self.query, np.arange(len(self)))
        first = np.minimum(first, max(len(passed) - 1, 0))
        return passed - passed[first][self.query] if len(passed) else passed

    @cached_property
    def found(self) -> Counts:
        """Right answers within reach: int64 [queries]."""
        return np.bincount(self.query, self.right, len(self)).astype(np.int64)

    def sums(self, of_groups: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of a value over each query's groups: float64 [queries]."""
        return np.bincount(self.query, of_groups, len(self)).astype(np.float64)

    def by_chance(self) -> Ranked:
        """Return the same queries with all candidates tied: their metrics are chance levels."""
        gain = self.relevant.astype(np.float64) if self.ideal is None else self.ideal.sum(axis=1)
        return replace(
            self,
            query=np.arange(len(self)),
            before=np.zeros(len(self), dtype=np.int64),
            size=self.others,
            right=self.relevant,
            gain=gain,
            reach=self.others,
        )

    def best(self) -> Ranked:
        """Return the same queries with ties in favour of the right answers."""
        return replace(self, size=self.right)

    def worst(self) -> Ranked:
        """Return the same queries with ties against the right answers."""
        return replace(self, before=self.before + self.size - self.right, size=self.right)


def tie_groups(
    ascending: NDArray[np.floating], right: NDArray[np.floating]
) -> tuple[Counts, Counts, Counts]:
    """Return one query's groups with a right answer, by falling score.

    Args:
        ascending: [candidates], all scores, sorted; -inf for rows that are not ranked.
        right: [R], scores of the right answers, in any order, all finite.

    Returns:
        ``before``, ``size`` and ``right`` of :class:`Ranked`, each int64 [groups].
    """
    wanted = np.sort(right)
    start = np.searchsorted(ascending, wanted, "left")
    # Usually nothing ties, and a second search is not needed.
    following = ascending[np.minimum(start + 1, len(ascending) - 1)]
    alone = (following != wanted) | (start + 1 == len(ascending))
    if alone.all():
        before = len(ascending) - 1 - start[::-1]
        ones = np.ones(len(before), dtype=np.int64)
        return before, ones, ones
    new = np.append(True, wanted[1:] != wanted[:-1])
    counts = np.diff(np.append(np.flatnonzero(new), len(wanted)))
    start = start[new]
    end = np.searchsorted(ascending, wanted[new], "right")
    return (len(ascending) - end)[::-1], (end - start)[::-1], counts[::-1]


def join(
    groups: Sequence[tuple[Counts, Counts, Counts]], relevant: ArrayLike, others: ArrayLike
) -> Ranked:
    """Return complete rankings with equal gains from the :func:`tie_groups` of each query."""
    before, size, right = (np.concatenate([group[i] for group in groups]) for i in range(3))
    query = np.repeat(np.arange(len(groups)), [len(group[0]) for group in groups])
    total = np.asarray(others, dtype=np.int64)
    gain = right.astype(np.float64)
    return Ranked(query, before, size, right, gain, np.asarray(relevant, np.int64), total, total)


def rank(
    scores: Sequence[ArrayLike],
    gains: Sequence[ArrayLike],
    all_gains: Sequence[ArrayLike] | None = None,
    others: ArrayLike | None = None,
) -> Ranked:
    """Rank each query's candidates by score.

    Args:
        scores: for each query [its candidates], higher is better; or a matrix. Candidates that
            are not ranked, such as the query itself, must be left out.
        gains: for each query [its candidates], above 0 if right; or booleans.
        all_gains: for each query the gains of all its right answers, if ``scores`` is a cut list;
            by default those in ``gains``.
        others: [queries], number of candidates, if the list is cut. A cut list does not show
            whether candidates beyond the cut tie with the last one before it; they are assumed
            not to.

    Raises:
        ValueError: if shapes do not fit, a score is not finite, a gain is below 0, or a query
            has no right answer.
    """
    parts: list[tuple[Counts, Counts, Counts, Gains]] = []
    ideals: list[Gains] = []
    lengths = []
    for number, (row, gain_row) in enumerate(zip(scores, gains, strict=True)):
        score, gain = np.asarray(row), np.asarray(gain_row, dtype=np.float64)
        if score.shape != gain.shape or score.ndim != 1:
            raise ValueError(f"query {number} has {score.shape} scores and {gain.shape} gains")
        if not np.isfinite(score).all() or not (gain >= 0).all():
            raise ValueError(f"query {number} has a score that is not finite or a gain below 0")
        hit = gain > 0
        ideal = gain[hit] if all_gains is None else np.asarray(all_gains[number], np.float64)
        ideals.append(np.sort(ideal)[::-1])
        lengths.append(len(score))
        parts.append(_groups_with_gains(score, hit, gain))
    before, size, right, gained = (np.concatenate([part[i] for part in parts]) for i in range(4))
    reach = np.array(lengths, dtype=np.int64)
    return Ranked(
        np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts]),
        before,
        size,
        right,
        gained,
        np.array([len(ideal) for ideal in ideals], dtype=np.int64),
        reach if others is None else np.broadcast_to(np.asarray(others, np.int64), reach.shape),
        reach,
        _padded(ideals) if any((ideal != 1).any() for ideal in ideals) else None,
    )


def _groups_with_gains(
    score: NDArray[np.floating], hit: NDArray[np.bool_], gain: Gains
) -> tuple[Counts, Counts, Counts, Gains]:
    if not hit.any():
        none = np.empty(0, dtype=np.int64)
        return none, none, none, np.empty(0)
    before, size, right = tie_groups(np.sort(score), score[hit])
    order = np.argsort(-score[hit], kind="stable")
    starts = np.cumsum(right) - right
    return before, size, right, np.add.reduceat(gain[hit][order], starts)


def _padded(ideals: Sequence[Gains]) -> Gains:
    padded = np.zeros((len(ideals), max(map(len, ideals))))
    for row, ideal in zip(padded, ideals, strict=True):
        row[: len(ideal)] = ideal
    return padded


def in_order(hits: ArrayLike, relevant: ArrayLike, others: ArrayLike | None = None) -> Ranked:
    """Return rankings without ties.

    Args:
        hits: bool [queries, places], whether the i-th nearest is right.
        relevant: int [queries], R.
        others: int [queries], M, if the ranking is cut; by default the number of places.

    Raises:
        ValueError: as :func:`rank`.
    """
    matrix = np.asarray(hits, dtype=bool)
    query, before = np.nonzero(matrix)
    reach = np.full(len(matrix), matrix.shape[1], dtype=np.int64)
    ones = np.ones(len(query), dtype=np.int64)
    total = reach if others is None else np.asarray(others, dtype=np.int64)
    counts = np.asarray(relevant, dtype=np.int64)
    return Ranked(query, before, ones, ones, ones.astype(float), counts, total, reach)


def by_position(scores: ArrayLike) -> NDArray[np.float64]:
    """Return scores in the same order without ties: of equal scores the first is the highest.

    For protocols whose published figures break ties by the order of the data.

    Args:
        scores: [candidates].

    Returns:
        float64 [candidates].
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    strict = np.empty(len(order))
    strict[order] = -np.arange(len(order))
    return strict
