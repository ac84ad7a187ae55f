"""Intervals of many figures at once, over one drawing of queries.

A run has thousands of figures over few sets of queries. The resamples of a set are drawn once and
serve all its figures, which makes an interval a matrix product.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from eval.metrics.statistics import interval, resampled_means

#: Resamples of each interval.
RESAMPLES = 1000

#: Queries up to which the drawing is kept: 32 MB.
_MOST = 8192


def means_of_resamples(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Means of :data:`RESAMPLES` drawings of as many queries with replacement: float64 [1000]."""
    if len(values) > _MOST:
        return resampled_means(values, None, RESAMPLES, seed)
    return np.asarray(_counts(len(values), seed) @ values.astype(np.float32), np.float64) / len(
        values
    )


def bounds(
    values: NDArray[np.float64], classes: NDArray[np.str_] | None, seed: int
) -> tuple[float, float]:
    """95 % bootstrap interval of a mean over queries, or of the mean over classes.

    Args:
        values: [queries].
        classes: [queries], where each class has equal weight; queries are then drawn within.
        seed: of the drawing.
    """
    if classes is not None:
        found = interval(values, classes, resamples=RESAMPLES, seed=seed)
        return found.low, found.high
    return ends(means_of_resamples(values, seed))


def ends(means: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of resampled means."""
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


@lru_cache(maxsize=6)
def _counts(queries: int, seed: int) -> NDArray[np.float32]:
    """How often each query is drawn: float32 [1000, queries]."""
    random = np.random.default_rng(seed)
    drawn = random.integers(0, queries, (RESAMPLES, queries))
    drawn += np.arange(RESAMPLES)[:, None] * queries
    counts = np.bincount(drawn.reshape(-1), minlength=RESAMPLES * queries)
    return counts.reshape(RESAMPLES, queries).astype(np.float32)
