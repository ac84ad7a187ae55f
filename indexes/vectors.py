"""The one convention of the project: unit vectors, cosine, higher is better."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


def unit(vectors: NDArray[np.floating]) -> Vectors:
    """Scale rows to unit length.

    Args:
        vectors: [n, dim], any float dtype.

    Returns:
        float32 [n, dim].

    Raises:
        ValueError: if a row is zero or holds a value that is not finite, since such a row has
            no direction and would silently never be found.
    """
    wide = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    if not np.isfinite(lengths).all() or not (lengths > 0).all():
        bad = int((~np.isfinite(lengths) | (lengths <= 0)).sum())
        raise ValueError(f"{bad} of {lengths.size} vectors are zero or not finite")
    result: Vectors = wide / lengths
    return result


def checksums(vectors: NDArray[np.float16]) -> NDArray[np.uint32]:
    """CRC-32 of each row's bytes, so that bit rot can be found later: uint32 [n]."""
    rows = np.ascontiguousarray(vectors)
    return np.array([zlib.crc32(row.tobytes()) for row in rows], dtype=np.uint32)
