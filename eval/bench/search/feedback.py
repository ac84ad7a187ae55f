"""Measures relevance feedback: how much better a search is after a user has rated its hits.

The user wants the pictures that share the label of a query picture, and answers truly. The gallery
is split at random into two halves. In each round the user sees the ten best pictures of the first
half that were not rated yet, likes those with the label and dislikes the others. Average precision
is measured on the second half, of which no picture was rated, so that no round profits from
pictures that it was shown (test and control groups, Rocchio's evaluation in the SMART system).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eval.labels import Labels, match_files
from eval.matrix import keys_by_path
from indexes.errors import UsageError
from ingest.conditions import same_name
from query.explore.feedback import moved, table_mean
from query.question import FEEDBACK
from query.ranking.combination import ScoreCombination, common_rows

if TYPE_CHECKING:
    from indexes.search.open_table import OpenTable
    from query.engine import Engine

#: After how many rounds it is measured.
ROUNDS = (0, 1, 3, 5)

#: Pictures that the user sees in a round.
SHOWN = 10

_RESAMPLES = 2000


@dataclass(frozen=True)
class FeedbackRow:
    """One way of feedback after some rounds.

    Attributes:
        method: one of :data:`query.question.FEEDBACK`.
        rounds: how many.
        mean_ap: mean average precision over the queries.
        interval: of it, 95 %, by resampling the queries.
    """

    method: str
    rounds: int
    mean_ap: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class FeedbackComparison:
    """What was measured.

    Attributes:
        wanted: what the users want: a label, or two joined by `` + ``.
        queries: how many queries.
        rows: of each method, after each number of rounds.
        difference: of mean average precision of the first method less that of the others after
            the last round, each with its 95 % interval.
    """

    wanted: str
    queries: int
    rows: tuple[FeedbackRow, ...]
    difference: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The comparison as a JSON object."""
        return {
            "wanted": self.wanted,
            "queries": self.queries,
            "rows": [vars(row) for row in self.rows],
            "difference": dict(self.difference),
        }


def compare_feedback(
    engine: Engine, labels: Labels, queries: int, seed: int, methods: Sequence[str] = ()
) -> list[FeedbackComparison]:
    """Measure all ways of feedback under each condition that has a label, and under pairs of them.

    Args:
        engine: over the gallery.
        labels: the labels of its pictures.
        queries: query pictures of each measurement, at least 1.
        seed: of the halves and the queries.
        methods: of :data:`query.question.FEEDBACK`; all by default.

    Raises:
        UsageError: if the label file does not fit the gallery.
    """
    by_path = keys_by_path(engine)
    matched = match_files(labels.values, by_path, labels.path)
    pairs = [(name, label) for name in engine.names() for label in labels.columns]
    own = [(name, label) for name, label in pairs if same_name(name, label)]
    if not own:
        raise UsageError(f"{labels.path} has no label with the name of a condition.")
    values = {
        label: {by_path[path]: labels.values[file][label] for file, path in matched.items()}
        for _, label in own
    }
    wanted = [*([one] for one in own), *([a, b] for a, b in pairwise(own))]
    return [
        _compare(engine, one, values, queries, seed, methods or list(FEEDBACK)) for one in wanted
    ]


def _compare(
    engine: Engine,
    wanted: Sequence[tuple[str, str]],
    values: Mapping[str, Mapping[str, str]],
    queries: int,
    seed: int,
    methods: Sequence[str],
) -> FeedbackComparison:
    tables = [engine.opened(condition) for condition, _ in wanted]
    rows = common_rows(tables)
    keys = [tables[0].keys[row] for row in rows[0]]
    found = [tuple(values[label].get(key, "") for _, label in wanted) for key in keys]
    numbers = {value: number for number, value in enumerate(dict.fromkeys(found))}
    classes = np.array([numbers[value] if all(value) else -1 for value in found])
    random = np.random.default_rng(seed)
    order = random.permutation(len(keys))
    first = np.zeros(len(keys), dtype=np.bool_)
    first[order[: len(keys) // 2]] = True
    user = _User(tables, rows, classes, first)
    asked = [int(row) for row in order if user.can_ask(int(row))][:queries]
    precision = {
        method: np.array([user.answers(row, method) for row in asked]) for method in methods
    }
    resamples = random.integers(0, len(asked), (_RESAMPLES, len(asked)))

    def interval(numbers: NDArray[np.float64]) -> tuple[float, float]:
        means = numbers[resamples].mean(axis=1)
        return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))

    figures = tuple(
        FeedbackRow(method, rounds, float(ap[:, at].mean()), interval(ap[:, at]))
        for method, ap in precision.items()
        for at, rounds in enumerate(ROUNDS)
    )
    best, *others = methods
    difference = {}
    for other in others:
        gain = precision[best][:, -1] - precision[other][:, -1]
        difference[other] = (float(gain.mean()), *interval(gain))
    return FeedbackComparison(
        " + ".join(label for _, label in wanted), len(asked), figures, difference
    )


class _User:
    """Rates pictures truly, and measures what the rest is worth."""

    def __init__(
        self,
        tables: Sequence[OpenTable],
        rows: NDArray[np.int64],
        classes: NDArray[np.int64],
        first: NDArray[np.bool_],
    ):
        self._vectors = [table.vectors(own) for table, own in zip(tables, rows, strict=True)]
        self._means = [table_mean(table) for table in tables]
        self._combination = ScoreCombination(tables, [1.0] * len(tables), rows)
        self._classes = classes
        self._first = first

    def can_ask(self, row: int) -> bool:
        """Whether the second half has a picture that a query is about."""
        same = self._classes == self._classes[row]
        return bool(self._classes[row] >= 0 and self._first[row] and (same & ~self._first).any())

    def answers(self, query: int, method: str) -> list[float]:
        """Average precision on the second half after each of :data:`ROUNDS`."""
        right = self._classes == self._classes[query]
        control = ~self._first & (self._classes >= 0)
        liked: list[int] = []
        disliked: list[int] = []
        found = []
        for number in range(max(ROUNDS) + 1):
            scores = self._scores(query, liked, disliked, method)
            if number in ROUNDS:
                found.append(_average_precision(scores[control], right[control]))
            may_see = self._first & (self._classes >= 0)
            may_see[[query, *liked, *disliked]] = False
            seen = np.flatnonzero(may_see)
            for row in seen[np.argsort(-scores[seen], kind="stable")[:SHOWN]].tolist():
                (liked if right[row] else disliked).append(row)
        return found

    def _scores(
        self, query: int, liked: list[int], disliked: list[int], method: str
    ) -> NDArray[np.float32]:
        cosines = []
        for vectors, mean in zip(self._vectors, self._means, strict=True):
            moving = vectors[query]
            if liked or disliked:
                moving = moved(moving, vectors[liked], vectors[disliked], mean, method)
            cosines.append(vectors @ moving)
        return cosines[0] if len(cosines) == 1 else self._combination.total(cosines)


def _average_precision(scores: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    ranked = right[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return float(precision[ranked].mean())
