"""Relevance feedback: liked and disliked pictures move the query's vector under a condition.

All vectors are centred by the mean m of the condition's table and scaled to unit length: a is the
query so centred and c_i the rated pictures. The moved direction is, by

- ``rocchio`` (Rocchio 1971): w = a + B mean(liked) - G mean(disliked);
- ``ridge``: the w that minimises sum_i p_i (w . c_i - y_i)^2 + L |w - a|^2, a ridge regression
  that is drawn to the query instead of to 0. y_i is 1 for liked pictures and 0, the mean of the
  gallery's pairs, for disliked ones; p_i is one over the number of pictures rated alike, so that
  both kinds weigh the same. With sqrt(p_i) c_i as the rows of C and e_i = sqrt(p_i) (y_i - a . c_i)
  the solution is w = a + C' (C C' + L I)^-1 e.

The vector that is searched with is m + |q - m| w / |w|, scaled to unit length: as far from the
mean as the query was, so that scores and percentiles keep their meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from indexes.vectors import Vectors

if TYPE_CHECKING:
    from indexes.search.open_table import OpenTable

#: B and G of Rocchio's formula, and L of the ridge. Chosen on rendered pictures of another seed
#: than those of the figures in docs/query.md.
LIKED, DISLIKED, RIDGE = 2.0, 0.5, 0.3

#: Rows of a table from which its mean is estimated.
_SAMPLE = 2000


def table_mean(table: OpenTable) -> NDArray[np.float32]:
    """The mean of a table's vectors as they are compared, of a sample if it is large: [dim]."""
    rows = np.arange(len(table))
    if len(rows) > _SAMPLE:
        rows = np.sort(np.random.default_rng(0).choice(len(rows), _SAMPLE, replace=False))
    return np.asarray(table.vectors(rows).mean(axis=0), dtype=np.float32)


def moved(
    query: NDArray[np.float32],
    liked: Vectors,
    disliked: Vectors,
    mean: NDArray[np.float32],
    method: str,
) -> NDArray[np.float32]:
    """A query's vector, moved by rated pictures; see the module's docstring.

    Args:
        query: float32 [dim], unit length.
        liked: float32 [n, dim], unit rows; n may be 0.
        disliked: float32 [m, dim], unit rows; m may be 0.
        mean: float32 [dim], of all pictures.
        method: one of :data:`query.question.FEEDBACK`.

    Returns:
        float32 [dim], unit length.
    """
    start = _directions(query[None], mean)[0]
    good, bad = _directions(liked, mean), _directions(disliked, mean)
    if method == "rocchio":
        direction = start.copy()
        if len(good):
            direction += LIKED * good.mean(axis=0)
        if len(bad):
            direction -= DISLIKED * bad.mean(axis=0)
    else:
        shares = [np.full(len(one), 1 / max(1, len(one))) for one in (good, bad)]
        roots = np.sqrt(np.concatenate(shares))
        rated = np.concatenate([good, bad])
        wanted = np.concatenate([np.ones(len(good)), np.zeros(len(bad))])
        step = _ridge_step(rated * roots[:, None], (wanted - rated @ start) * roots)
        direction = start + step
    length = float(np.linalg.norm(direction))
    if length < 1e-6:  # the ratings contradict the query exactly
        return query
    distance = float(np.linalg.norm(query.astype(np.float64) - mean))
    found = mean + max(distance, 1e-3) * direction / length
    return np.asarray(found / np.linalg.norm(found), dtype=np.float32)


def _ridge_step(rated: NDArray[np.float64], errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """C' (C C' + L I)^-1 e, by the smaller of the two systems of equations."""
    count, dimension = rated.shape
    if count <= dimension:
        system = rated @ rated.T + RIDGE * np.eye(count)
        return np.asarray(rated.T @ np.linalg.solve(system, errors))
    system = rated.T @ rated + RIDGE * np.eye(dimension)
    return np.asarray(np.linalg.solve(system, rated.T @ errors))


def _directions(vectors: Vectors, mean: NDArray[np.float32]) -> NDArray[np.float64]:
    """Centred vectors of unit length; 0 where a vector is the mean."""
    centred = vectors.astype(np.float64) - mean
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(lengths < 1e-6, np.inf, lengths)
