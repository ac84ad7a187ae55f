"""Retrieval metrics as pure functions on rankings, each with its chance level.

A ranking is a boolean matrix [queries, others]: whether the i-th nearest other picture is
relevant, the query itself left out. ``relevant`` [queries] counts all relevant others, R. Every
query given must have R of at least 1; a query without anything to find says nothing.

Chance is the expectation under a uniformly random ranking of the same M others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ranking = NDArray[np.bool_]
Counts = NDArray[np.int64]
Scores = NDArray[np.float64]


def precision_at_1(ranking: Ranking) -> Scores:
    """Whether the nearest picture is relevant, for each query (also called R@1): [queries]."""
    return ranking[:, 0].astype(np.float64)


def hit_rate_at(ranking: Ranking, k: int) -> Scores:
    """Whether any of the first ``k`` is relevant: recall@k as metric learning names it."""
    result: Scores = np.any(ranking[:, :k], axis=1, keepdims=True)[:, 0].astype(np.float64)
    return result


def map_at_r(ranking: Ranking, relevant: Counts) -> Scores:
    """MAP@R, for each query: (1/R) times the sum over i <= R of P(i) rel(i).

    Musgrave et al., A Metric Learning Reality Check, ECCV 2020, section 3.2.

    Args:
        ranking: at least the first R columns for the largest R.
        relevant: R of each query.

    Raises:
        ValueError: if the ranking is shorter than the largest R.
    """
    longest = int(relevant.max(initial=0))
    if ranking.shape[1] < longest:
        raise ValueError(f"the ranking has {ranking.shape[1]} columns, MAP@R needs {longest}")
    hits = ranking[:, :longest].astype(np.float64)
    places = np.arange(1, longest + 1)
    precision = np.cumsum(hits, axis=1) / places
    counted = precision * hits * (places <= relevant[:, None])
    result: Scores = counted.sum(axis=1) / relevant
    return result


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


def triplet_accuracy(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> float:
    """Share of triplets whose positive is more alike than the negative, ties one half.

    Args:
        positive: similarity of query and positive, [triplets].
        negative: similarity of query and negative, [triplets].
    """
    return float(np.mean((positive > negative) + 0.5 * (positive == negative)))
