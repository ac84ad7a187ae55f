"""Metrics of rankings without ties, and closed forms of chance levels, which tests compare with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eval.metrics.formulas import Scores, average_precision_at_r
from eval.metrics.ranked import Counts, in_order

#: Whether the i-th nearest candidate is right: [queries, candidates].
Ranking = NDArray[np.bool_]


def precision_at_1(ranking: Ranking) -> Scores:
    """Whether the nearest picture is relevant, for each query (also called R@1): [queries]."""
    return ranking[:, 0].astype(np.float64)


def hit_rate_at(ranking: Ranking, k: int) -> Scores:
    """Whether any of the first ``k`` is relevant: recall@k as metric learning names it."""
    result: Scores = np.any(ranking[:, :k], axis=1, keepdims=True)[:, 0].astype(np.float64)
    return result


def map_at_r(ranking: Ranking, relevant: Counts) -> Scores:
    """:func:`average_precision_at_r` of a ranking without ties.

    Args:
        ranking: at least the first R columns for the largest R.
        relevant: R of each query.

    Raises:
        ValueError: if the ranking is shorter than the largest R.
    """
    longest = int(relevant.max(initial=0))
    if ranking.shape[1] < longest:
        raise ValueError(f"the ranking has {ranking.shape[1]} columns, MAP@R needs {longest}")
    return average_precision_at_r(in_order(ranking, relevant))


def chance_precision_at_1(relevant: Counts, others: Counts) -> Scores:
    """Expected P@1: R / M, each [queries]."""
    return relevant / others


def chance_hit_rate_at(relevant: Counts, others: Counts, k: int) -> Scores:
    """Expected hit rate: 1 - C(M - R, k) / C(M, k), as a product to stay in range."""
    drawn = np.arange(k)
    left = np.clip(others[:, None] - drawn, 1, None)
    misses = np.clip((others - relevant)[:, None] - drawn, 0, None) / left
    # Beyond M draws there is nothing left to miss.
    misses[drawn >= others[:, None]] = 1.0
    result: Scores = 1 - misses.prod(axis=1)
    return result


def chance_map_at_r(relevant: Counts, others: Counts) -> Scores:
    """Expected MAP@R: (H_R + (R - H_R) (R - 1) / (M - 1)) / M, with H_R the harmonic number.

    For place i, E[P(i) rel(i)] = (R/M) (1 + (i - 1) (R - 1) / (M - 1)) / i; summed over i <= R
    and divided by R.
    """
    longest = int(relevant.max(initial=0))
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, longest + 1))])[relevant]
    spread = (relevant - harmonic) * (relevant - 1) / np.maximum(1, others - 1)
    result: Scores = (harmonic + spread) / others
    return result
