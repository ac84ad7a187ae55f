"""Ranks and measures whole galleries in blocks of queries, with bounded memory.

A block of queries is multiplied with the gallery, and the scores of each row are sorted without
their positions: the place of a right answer is the number of higher scores, which a binary search
finds. This needs neither the order nor a cut at some depth, counts ties exactly, and works for
all metrics and any number of labels at once. (Sorting 60,000 float32 takes 0.4 ms, a partition
0.5 ms, and an argpartition 1.4 ms.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.metrics.formulas import Scores
from eval.metrics.names import Metric
from eval.metrics.ranked import Counts, Ranked, join, tie_groups
from indexes.search.multi_vector import similarities
from indexes.vectors import Vectors

#: Number of a query to rows of the gallery: its right answers, or rows not ranked for it.
RowsOfQuery = Callable[[int], NDArray[np.integer]]

#: Scores in memory at once in each thread: 64 MB.
_SCORES = 1 << 24


@dataclass(frozen=True)
class JudgedQueries:
    """Metrics of every query that has a right answer.

    Attributes:
        queries: int64 [n], numbers of the queries, rising.
        relevant: int64 [n], right answers of each query, R.
        others: int64 [n], candidates of each query, M.
        values: metric's name to float64 [n].
        chance: metric's name to float64 [n], expectation under a random ranking.
    """

    queries: Counts
    relevant: Counts
    others: Counts
    values: Mapping[str, Scores]
    chance: Mapping[str, Scores]


def judge_all(
    queries: Vectors,
    gallery: Vectors,
    right: Mapping[str, RowsOfQuery],
    metrics: Sequence[Metric],
    left_out: RowsOfQuery | None = None,
    threads: int | None = None,
    parts: int = 1,
) -> dict[str, JudgedQueries]:
    """Rank the gallery for every query by cosine, and measure.

    Equal rows of the gallery get exactly equal scores.

    Args:
        queries: float32 [queries, dim], unit rows.
        gallery: float32 [n, dim], unit rows.
        right: name of a judge, such as a label, to the right answers of a query; rows that are
            left out of its ranking do not count.
        metrics: the metrics to measure.
        left_out: rows that are not ranked for a query, such as itself.
        threads: blocks processed at once, each with about 150 MB; by default as many as cores, at
            most 4.
        parts: vectors in each row, of which the best counts; see
            :mod:`indexes.search.multi_vector`.

    Returns:
        For each judge the metrics of the queries that have a right answer.

    Raises:
        ValueError: if a vector is not finite.
    """
    if not (np.isfinite(queries).all() and np.isfinite(gallery).all()):
        raise ValueError("a vector has a component that is not a finite number")
    distinct, copies = _distinct(gallery)
    step = int(np.clip(_SCORES // max(1, len(gallery)), 1, 512))
    starts = range(0, len(queries), step)

    def judged_block(start: int) -> dict[str, JudgedQueries]:
        block = range(start, min(start + step, len(queries)))
        scores = similarities(queries[block.start : block.stop], distinct, parts)
        if copies is not None:
            scores = scores[:, copies]
        return _judge_block(scores, block, right, metrics, left_out)

    with ThreadPoolExecutor(threads or min(4, os.cpu_count() or 1)) as pool:
        blocks = list(pool.map(judged_block, starts))
    return {name: _joined([block[name] for block in blocks], metrics) for name in right}


def by_value(values: NDArray[np.int64]) -> RowsOfQuery:
    """Return right answers by value, where gallery and queries are the same pictures.

    Args:
        values: int64 [n]; negative values are unknown and never right.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]

    def rows(query: int) -> NDArray[np.integer]:
        value = values[query]
        if value < 0:
            return order[:0]
        start, stop = np.searchsorted(ordered, [value, value + 1])
        return order[start:stop]

    return rows


def by_labels(queries: Sequence[Sequence[str]], gallery: Sequence[Sequence[str]]) -> RowsOfQuery:
    """Return right answers: rows of the gallery that share a label with the query.

    Args:
        queries: labels of each query.
        gallery: labels of each row of the gallery.
    """
    rows_with: dict[str, list[int]] = {}
    for row, labels in enumerate(gallery):
        for label in dict.fromkeys(labels):
            rows_with.setdefault(label, []).append(row)
    sets = {label: np.array(rows, dtype=np.int64) for label, rows in rows_with.items()}
    none = np.empty(0, dtype=np.int64)

    def rows(query: int) -> NDArray[np.integer]:
        found = [sets.get(label, none) for label in queries[query]]
        if len(found) == 1:
            return found[0]
        return np.unique(np.concatenate([none, *found]))

    return rows


def itself(query: int) -> NDArray[np.integer]:
    """Return the query itself, where gallery and queries are the same pictures."""
    return np.array([query])


def itself_and_alike(classes: NDArray[np.int64]) -> RowsOfQuery:
    """Return the query and all rows of its class, from the class of each row, -1 for none."""
    same_class = by_value(classes)

    def rows(query: int) -> NDArray[np.integer]:
        return same_class(query) if classes[query] >= 0 else itself(query)

    return rows


def _distinct(gallery: Vectors) -> tuple[Vectors, NDArray[np.int64] | None]:
    """Return the distinct rows, and the number of each row's; ``None`` if all are distinct.

    A matrix product may round equal rows differently, which would break their ties.
    """
    numbers: dict[bytes, int] = {}
    which = np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in gallery])
    if len(numbers) == len(gallery):
        return gallery, None
    first = np.unique(which, return_index=True)[1]
    return gallery[first], which


def _judge_block(
    scores: NDArray[np.float32],
    block: range,
    right: Mapping[str, RowsOfQuery],
    metrics: Sequence[Metric],
    left_out: RowsOfQuery | None,
) -> dict[str, JudgedQueries]:
    others = np.full(len(block), scores.shape[1], dtype=np.int64)
    if left_out is not None:
        for row, query in enumerate(block):
            rows = left_out(query)
            scores[row, rows] = -np.inf
            others[row] -= len(rows)
    ascending = np.sort(scores, axis=1)
    judged = {}
    for name, rows_of in right.items():
        groups, measured, relevant = [], [], []
        for row, query in enumerate(block):
            right_scores = scores[row, rows_of(query)]
            right_scores = right_scores[right_scores > -np.inf]
            if len(right_scores):
                groups.append(tie_groups(ascending[row], right_scores))
                measured.append(row)
                relevant.append(len(right_scores))
        if not measured:
            none = np.empty(0, dtype=np.int64)
            empty = {one.name: np.empty(0) for one in metrics}
            judged[name] = JudgedQueries(none, none, none, empty, empty)
            continue
        ranked = join(groups, relevant, others[measured])
        values = {one.name: one(ranked) for one in metrics}
        numbers = block.start + np.array(measured)
        judged[name] = JudgedQueries(numbers, ranked.relevant, ranked.others, values, {})
    return judged


def _joined(blocks: Sequence[JudgedQueries], metrics: Sequence[Metric]) -> JudgedQueries:
    relevant = np.concatenate([block.relevant for block in blocks])
    others = np.concatenate([block.others for block in blocks])
    return JudgedQueries(
        np.concatenate([block.queries for block in blocks]),
        relevant,
        others,
        {one.name: np.concatenate([block.values[one.name] for block in blocks]) for one in metrics},
        chance_of(relevant, others, metrics),
    )


def chance_of(relevant: Counts, others: Counts, metrics: Sequence[Metric]) -> dict[str, Scores]:
    """Return exact chance levels of queries with R right among M candidates and equal gains.

    Args:
        relevant: int64 [queries], R.
        others: int64 [queries], M.
        metrics: whose levels are returned.

    Returns:
        Metric's name to float64 [queries].
    """
    cases, which = np.unique(np.stack([relevant, others], axis=1), axis=0, return_inverse=True)
    number, few_relevant, few_others = np.arange(len(cases)), cases[:, 0], cases[:, 1]
    few = Ranked(
        query=number,
        before=0 * number,
        size=few_others,
        right=few_relevant,
        gain=few_relevant.astype(np.float64),
        relevant=few_relevant,
        others=few_others,
        reach=few_others,
    )
    return {one.name: one.chance(few)[which.reshape(-1)] for one in metrics}
