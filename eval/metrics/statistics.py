"""Intervals of means over queries, and tests of one run against another.

Reports need intervals of thousands of figures over few sets of queries. :func:`bounds` and
:func:`means_of_resamples` draw the resamples of a set once and use them for all its figures, which
makes an interval a matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]

#: Random numbers drawn at once.
_DRAWN = 4_000_000

#: Up to this many differences other than 0, all choices of signs are tested.
EXACT = 16

#: Resamples of the intervals of reports.
RESAMPLES = 1000

#: Queries up to which the resamples of a set are cached: 32 MB.
_MOST_CACHED = 8192


@dataclass(frozen=True)
class Interval:
    """A percentile bootstrap interval of a mean over queries.

    Attributes:
        low: lower end.
        high: upper end.
        level: share of resamples inside, such as 0.95.
        resamples: number of resamples.
        seed: the seed of the resampling.
    """

    low: float
    high: float
    level: float
    resamples: int
    seed: int


@dataclass(frozen=True)
class PairedTest:
    """A paired test of two runs that answered the same queries.

    Attributes:
        difference: mean of the first minus that of the second.
        interval: the interval of the difference.
        p_value: two-sided: share of all choices of signs of the differences whose mean is at
            least as far from 0.
        exact: whether all choices were tested; otherwise ``rounds`` were drawn.
        rounds: number of drawn choices, 0 if exact.
        queries: number of queries.
        unequal: number of queries on which the two runs differ.
    """

    difference: float
    interval: Interval
    p_value: float
    exact: bool
    rounds: int
    queries: int
    unequal: int


def interval(
    values: ArrayLike,
    strata: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Return the bootstrap interval of a mean over queries.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. It is about other
    queries on the same gallery, not about other galleries. It does not account for the candidates
    that leave-one-out queries share.

    Args:
        values: [queries].
        strata: [queries], the stratum of each query, if the figure is a plain mean of means, as
            over classes or over a task's parts; queries are then drawn within strata. A stratum
            of a single query adds no width.
        level: share of resamples that the interval holds.
        resamples: number of resamples.
        seed: the seed of the resampling.

    Raises:
        ValueError: if there are no values, or the level is not between 0 and 1.
    """
    given = np.asarray(values, dtype=np.float64)
    if not len(given):
        raise ValueError("an interval of no values")
    if not 0 < level < 1:
        raise ValueError(f"a level of {level} is not between 0 and 1")
    means = resampled_means(given, strata, resamples, seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, resamples, seed)


def resampled_means(
    values: Values, strata: ArrayLike | None, resamples: int, seed: int
) -> NDArray[np.float64]:
    """Return means over queries drawn with replacement: float64 [resamples].

    For the arguments see :func:`interval`.
    """
    random = np.random.default_rng(seed)
    if strata is None:
        parts = [values]
    else:
        number = np.unique(np.asarray(strata), return_inverse=True)[1].reshape(-1)
        order = np.argsort(number, kind="stable")
        parts = np.split(values[order], np.cumsum(np.bincount(number))[:-1])
    means = np.zeros(resamples)
    for part in parts:
        means += _means_of(part, resamples, random) / len(parts)
    return means


def _means_of(values: Values, resamples: int, random: np.random.Generator) -> NDArray[np.float64]:
    distinct, counts = np.unique(values, return_counts=True)
    means = np.empty(resamples)
    # With few distinct values, as for hits, the number of draws of each is multinomial.
    few = len(distinct) * 8 <= len(values)
    for part in _parts(resamples, len(distinct) if few else len(values)):
        size = part.stop - part.start
        if few:
            drawn = random.multinomial(len(values), counts / len(values), size)
            means[part] = drawn @ distinct / len(values)
        else:
            means[part] = values[random.integers(0, len(values), (size, len(values)))].mean(axis=1)
    return means


def _parts(rounds: int, width: int) -> Iterator[slice]:
    step = max(1, _DRAWN // max(1, width))
    return (slice(start, min(start + step, rounds)) for start in range(0, rounds, step))


def bounds(values: Values, classes: NDArray[np.str_] | None, seed: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean over queries, or of a mean over classes.

    Args:
        values: [queries].
        classes: [queries], if each class has equal weight; queries are then drawn within classes.
        seed: the seed of the resampling.
    """
    if classes is not None:
        found = interval(values, classes, resamples=RESAMPLES, seed=seed)
        return found.low, found.high
    return middle_95(means_of_resamples(values, seed))


def means_of_resamples(values: Values, seed: int) -> Values:
    """Return means over :data:`RESAMPLES` draws of the queries with replacement: float64 [1000]."""
    if len(values) > _MOST_CACHED:
        return resampled_means(values, None, RESAMPLES, seed)
    counts = _draw_counts(len(values), seed)
    return np.asarray(counts @ values.astype(np.float32), np.float64) / len(values)


def middle_95(means: Values) -> tuple[float, float]:
    """Return the ends of the middle 95 % of resampled means."""
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


@lru_cache(maxsize=6)
def _draw_counts(queries: int, seed: int) -> NDArray[np.float32]:
    """Return how often each query is in each resample: float32 [1000, queries]."""
    random = np.random.default_rng(seed)
    drawn = random.integers(0, queries, (RESAMPLES, queries))
    drawn += np.arange(RESAMPLES)[:, None] * queries
    counts = np.bincount(drawn.reshape(-1), minlength=RESAMPLES * queries)
    return counts.reshape(RESAMPLES, queries).astype(np.float32)


def paired_test(
    first: ArrayLike,
    second: ArrayLike,
    strata: ArrayLike | None = None,
    rounds: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = 10_000,
) -> PairedTest:
    """Test two runs' figures on the same queries by a permutation test that flips signs.

    If the runs were equal, each query's difference could as well have the other sign (Fisher
    1935; for retrieval: Smucker, Allan and Carterette, CIKM 2007). All choices of signs are tested
    if at most :data:`EXACT` differences are not 0; otherwise ``rounds`` are drawn, and the
    observed one counts among them.

    Args:
        first: [queries].
        second: [queries], in the same order.
        strata: as for :func:`interval`; differences are then weighted as the figure weights them.
        rounds: number of drawn choices of signs.
        seed: the seed of the drawing.
        level: the level of the interval of the difference.
        resamples: the number of resamples of that interval.

    Raises:
        ValueError: if the two do not have the same queries, or none.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"the runs have {a.shape} and {b.shape} queries, they must be the same")
    differences = a - b
    weights = _weights(len(a), strata)
    weighted = differences * weights
    parts = np.abs(weighted[weighted != 0])
    observed = abs(float(weighted.sum()))
    # Sums that differ only by the order of addition count as equal.
    threshold = observed - 1e-12 * (float(parts.sum()) + np.finfo(float).tiny)
    exact = len(parts) <= EXACT
    if exact:
        signs = 1 - 2 * ((np.arange(2 ** len(parts))[:, None] >> np.arange(len(parts))) & 1)
        p_value = float(np.mean(np.abs(signs @ parts) >= threshold))
    else:
        sums = np.abs(_signed_sums(parts, rounds, np.random.default_rng(seed)))
        p_value = float((np.count_nonzero(sums >= threshold) + 1) / (rounds + 1))
    return PairedTest(
        float(weighted.sum()),
        interval(differences, strata, level, resamples, seed),
        p_value,
        exact,
        0 if exact else rounds,
        len(a),
        len(parts),
    )


def _weights(queries: int, strata: ArrayLike | None) -> Values:
    if strata is None:
        return np.full(queries, 1 / queries)
    number = np.unique(np.asarray(strata), return_inverse=True)[1].reshape(-1)
    counts = np.bincount(number)
    weights: Values = 1 / (len(counts) * counts[number])
    return weights


def _signed_sums(parts: Values, rounds: int, random: np.random.Generator) -> Values:
    """Return sums of ``parts`` with random signs: float64 [rounds]."""
    distinct, counts = np.unique(parts, return_counts=True)
    sums = np.empty(rounds)
    for part in _parts(rounds, len(distinct)):
        # The number of plus signs among n equal parts is binomial.
        plus = random.binomial(counts, 0.5, (part.stop - part.start, len(distinct)))
        sums[part] = (2 * plus - counts) @ distinct
    return sums


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the number of comparisons, in the order given.

    Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979: the i-th smallest of m is
    multiplied by m - i + 1, and none is below a smaller one's.
    """
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    steps = given[order] * np.arange(len(given), 0, -1)
    adjusted = np.empty(len(given))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return [float(value) for value in adjusted]
