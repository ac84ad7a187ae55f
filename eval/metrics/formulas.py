"""Retrieval metrics as pure functions on rankings, ties in expectation.

Every function takes :class:`eval.metrics.ranked.Ranked` and returns float64 [queries]. P(i) is the
share of right answers among the first i, rel(i) is 1 if the i-th is right and 0 otherwise, R is
the number of right answers and M the number of candidates. A group of t equal scores, r of them
right, with g candidates and H right answers before it, contributes

    E[rel(i)] = r / t
    E[P(i) rel(i)] = (r / t) (H + 1 + (i - g - 1) (r - 1) / (t - 1)) / i
    P(no right answer among its first n) = C(t - r, n) / C(t, n)

at each of its places i: if the i-th is right, each of the i - g - 1 before it in the group is
right with probability (r - 1) / (t - 1).

The chance level of a metric is its value where all candidates tie
(:meth:`eval.metrics.ranked.Ranked.by_chance`): the expectation under a random ranking, exact.
Names of metrics, with k in them and their definitions in words, are in :mod:`eval.metrics.names`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.metrics.ranked import Counts, Ranked

Scores = NDArray[np.float64]


def hits_at(ranked: Ranked, k: ArrayLike) -> Scores:
    """Expected number of right answers among the first ``k`` (one, or one for each query)."""
    places = np.clip(_of_groups(ranked, k) - ranked.before, 0, ranked.size)
    return ranked.sums(ranked.right * places / ranked.size)


def precision_at(ranked: Ranked, k: int) -> Scores:
    """Precision@k: right answers among the first ``k``, divided by ``k``."""
    return hits_at(ranked, k) / k


def true_recall_at(ranked: Ranked, k: int) -> Scores:
    """True recall@k: right answers among the first ``k``, divided by R."""
    return hits_at(ranked, k) / ranked.relevant


def capped_recall_at(ranked: Ranked, k: int) -> Scores:
    """Capped recall@k: right answers among the first ``k``, divided by min(k, R)."""
    return hits_at(ranked, k) / np.minimum(k, ranked.relevant)


def modified_precision_at(ranked: Ranked, k: int) -> Scores:
    """Modified precision@k: P(min(k, R)). With k = 5 its mean is UnED's mMP@5.

    UnED's code counts only the first R places if a query has fewer than ``k`` right answers;
    capped recall counts the first ``k``, and is never lower.
    """
    places = np.minimum(k, ranked.relevant)
    return hits_at(ranked, places) / places


def r_precision(ranked: Ranked) -> Scores:
    """R-precision: P(R)."""
    return hits_at(ranked, ranked.relevant) / ranked.relevant


def hit_rate(ranked: Ranked, k: int) -> Scores:
    """Hit rate@k: probability that any of the first ``k`` is right."""
    result = np.zeros(len(ranked))
    first, groups = _first_groups(ranked)
    before, size, right = (of[groups] for of in (ranked.before, ranked.size, ranked.right))
    drawn = np.clip(k - before, 0, size)
    result[first] = drawn > 0
    tied = size > right
    result[first[tied]] = 1 - _nothing_drawn(size[tied], right[tied], drawn[tied])
    return result


def reciprocal_rank(ranked: Ranked, k: int | None = None) -> Scores:
    """MRR: 1 / place of the first right answer, 0 if it is beyond ``k``.

    In a tie the first right answer is at the s-th of t places with probability
    C(t - s, r - 1) / C(t, r).
    """
    result = np.zeros(len(ranked))
    first, groups = _first_groups(ranked)
    place = ranked.before[groups] + 1
    result[first] = np.where(place <= (ranked.others[first] if k is None else k), 1 / place, 0)
    tied = ranked.size[groups] > ranked.right[groups]
    first, groups = first[tied], groups[tied]
    cases = np.stack([ranked.before[groups], ranked.size[groups], ranked.right[groups]], axis=1)
    distinct, which = np.unique(cases, axis=0, return_inverse=True)
    values = np.empty(len(distinct))
    for number, (before, size, right) in enumerate(distinct):
        s = np.arange(size - right + 1)
        # No right answer among the first s, and then the next one is right.
        none_yet = np.append(1.0, np.cumprod((size - right - s[:-1]) / (size - s[:-1])))
        chance = none_yet * right / (size - s)
        place = before + s + 1
        inside = place <= (k if k is not None else place[-1])
        values[number] = np.sum(chance[inside] / place[inside])
    result[first] = values[which.reshape(-1)]
    return result


def average_precision(ranked: Ranked) -> Scores:
    """Full average precision: (1/R) times the sum over all i of P(i) rel(i)."""
    return _precision_sum(ranked, ranked.others) / ranked.relevant


def average_precision_at_r(ranked: Ranked) -> Scores:
    """MAP@R of each query: (1/R) times the sum over i <= R of P(i) rel(i).

    Musgrave et al., A Metric Learning Reality Check, ECCV 2020, section 3.2.
    """
    return _precision_sum(ranked, ranked.relevant) / ranked.relevant


def average_precision_at(ranked: Ranked, k: int) -> Scores:
    """Truncated mAP@k of each query: the sum over i <= k of P(i) rel(i), over min(k, R).

    Baldrati et al., Zero-Shot Composed Image Retrieval with Textual Inversion, ICCV 2023.
    """
    return _precision_sum(ranked, k) / np.minimum(k, ranked.relevant)


def ndcg(ranked: Ranked, k: int | None = None) -> Scores:
    """nDCG@k, or of the whole ranking: gains over log2(i + 1), over those of the ideal ranking.

    Järvelin and Kekäläinen, ACM TOIS 2002, with linear gains as trec_eval takes them.
    """
    limit = ranked.others if k is None else np.minimum(k, ranked.others)
    discount = _discounts(int(ranked.others.max(initial=0)))
    end = np.clip(limit[ranked.query], ranked.before, ranked.before + ranked.size)
    gained = ranked.sums(ranked.gain / ranked.size * (discount[end] - discount[ranked.before]))
    if ranked.ideal is None:
        best = discount[np.minimum(limit, ranked.relevant)]
    else:
        within = np.arange(ranked.ideal.shape[1]) < limit[:, None]
        best = (ranked.ideal * within) @ np.diff(discount[: ranked.ideal.shape[1] + 1])
    return gained / best


def _of_groups(ranked: Ranked, of_queries: ArrayLike) -> Counts:
    spread: Counts = np.broadcast_to(np.asarray(of_queries, np.int64), (len(ranked),))
    return spread[ranked.query]


def _first_groups(ranked: Ranked) -> tuple[Counts, Counts]:
    """Return queries with a right answer within reach, and each one's first group."""
    groups = np.flatnonzero(np.diff(ranked.query, prepend=-1))
    return ranked.query[groups], groups


def _nothing_drawn(size: Counts, right: Counts, drawn: Counts) -> Scores:
    """Return C(t - r, n) / C(t, n), as the shorter of two equal products."""
    cases = np.stack([size, np.minimum(right, drawn), np.maximum(right, drawn)], axis=1)
    distinct, which = np.unique(cases, axis=0, return_inverse=True)
    values = np.empty(len(distinct))
    for number, (t, short, long) in enumerate(distinct):
        j = np.arange(short)
        values[number] = np.prod(np.maximum(t - long - j, 0) / (t - j))
    return values[which.reshape(-1)]


def _precision_sum(ranked: Ranked, limit: ArrayLike) -> Scores:
    """Return the expected sum over i <= limit of P(i) rel(i).

    Over a group's first n places, with u = (r - 1) / (t - 1), the terms sum to
    (r / t) ((H + 1 - (g + 1) u) (h(g + n) - h(g)) + u n), h the harmonic numbers.
    """
    g, t, r = ranked.before, ranked.size, ranked.right
    n = np.clip(_of_groups(ranked, limit) - g, 0, t)
    h = _harmonic(int(ranked.others.max(initial=0)))
    u = (r - 1) / np.maximum(t - 1, 1)
    terms = (ranked.right_before + 1 - (g + 1) * u) * (h[g + n] - h[g]) + u * n
    return ranked.sums(r / t * terms)


@lru_cache(maxsize=4)
def _harmonic(most: int) -> Scores:
    """Return the harmonic numbers of 0 to ``most``: float64 [most + 1]."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, most + 1))])


@lru_cache(maxsize=4)
def _discounts(most: int) -> Scores:
    """Return sums of 1 / log2(i + 1) over the first places: float64 [most + 1]."""
    return np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, most + 2)))])


def balanced_mean(values: Scores, classes: NDArray[np.generic]) -> float:
    """Return the mean over classes of the mean over each class's queries.

    Args:
        values: [queries].
        classes: [queries], of any type that sorts.
    """
    number = np.unique(classes, return_inverse=True)[1].reshape(-1)
    return float(np.mean(np.bincount(number, values) / np.bincount(number)))


def triplet_accuracy(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> Scores:
    """Whether the positive is more similar than the negative, a tie one half: [triplets].

    Args:
        positive: similarity of query and positive, [triplets].
        negative: similarity of query and negative, [triplets].
    """
    scores: Scores = (positive > negative) + 0.5 * (positive == negative)
    return scores
