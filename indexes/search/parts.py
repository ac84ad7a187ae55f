"""Rows of several vectors, of which the best counts, such as those of a picture and its corners.

A row of n parts holds n unit vectors one after another, each scaled by 1 / sqrt(n), so that the
row is a unit vector itself and can be stored, checked and indexed like any other. The dot product
of two rows is then the mean of the cosines of their parts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexes.vectors import Vectors

#: Numbers of rows held in single precision at once.
_BLOCK = 2**24


def joined(vectors: Vectors) -> Vectors:
    """Unit vectors [..., parts, dim] as rows: float32 [..., parts * dim], unit rows."""
    parts = vectors.shape[-2]
    scaled = np.asarray(vectors, dtype=np.float32) / np.float32(np.sqrt(parts))
    return scaled.reshape(*vectors.shape[:-2], -1)


def split(rows: Vectors | NDArray[np.float16], parts: int) -> Vectors:
    """The inverse of :func:`joined`: float32 [n, parts, dim], unit vectors.

    Args:
        rows: [n, parts * dim].
        parts: in a row.

    Raises:
        ValueError: if rows cannot be cut into so many.
    """
    if parts < 1 or rows.shape[-1] % parts:
        raise ValueError(f"rows of {rows.shape[-1]} numbers have no {parts} parts")
    scaled = np.asarray(rows, dtype=np.float32) * np.float32(np.sqrt(parts))
    return scaled.reshape(len(rows), parts, -1)


def best_of_parts(
    queries: Vectors, rows: Vectors | NDArray[np.float16], parts: int = 5
) -> NDArray[np.float32]:
    """How near each query is to the nearest part of each row.

    Args:
        queries: float32 [q, dim], unit vectors; of a picture that asks, its first part, which is
            the whole picture: ``split(rows, parts)[:, 0]``.
        rows: [n, parts * dim], from :func:`joined`.
        parts: in a row.

    Returns:
        float32 [q, n], the best cosine.

    Raises:
        ValueError: if rows cannot be cut into so many parts of the queries' length.
    """
    if rows.shape[-1] != parts * queries.shape[-1]:
        raise ValueError(
            f"rows of {rows.shape[-1]} numbers have no {parts} parts of {queries.shape[-1]}"
        )
    asked = np.asarray(queries, dtype=np.float32)
    scores = np.empty((len(queries), len(rows)), dtype=np.float32)
    step = max(1, _BLOCK // max(1, rows.shape[-1]))
    for start in range(0, len(rows), step):
        some = split(rows[start : start + step], parts)
        cosines = asked @ some.reshape(-1, some.shape[-1]).T
        scores[:, start : start + len(some)] = cosines.reshape(len(asked), -1, parts).max(-1)
    return scores


def likenesses(queries: Vectors, rows: Vectors, parts: int = 1) -> NDArray[np.float32]:
    """How near queries are to rows, all of the same kind.

    Args:
        queries: float32 [q, dim], unit rows; of several parts the first one asks.
        rows: float32 [n, dim], unit rows.
        parts: in each of them.

    Returns:
        float32 [q, n], the cosine, or that with the best part.
    """
    if parts == 1:
        return np.asarray(queries @ rows.T, dtype=np.float32)
    return best_of_parts(split(queries, parts)[:, 0], rows, parts)
