"""Unit vectors, compared by cosine (higher is better), and their checksums."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

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
        ValueError: if a row is zero or has a value that is not finite. Such a row has no
            direction, and no search would find it.
    """
    wide = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    if not np.isfinite(lengths).all() or not (lengths > 0).all():
        bad = int((~np.isfinite(lengths) | (lengths <= 0)).sum())
        raise ValueError(f"{bad} of {lengths.size} vectors are zero or not finite")
    result: Vectors = wide / lengths
    return result


def checksums(
    vectors: NDArray[np.float16],
    keys: Sequence[str],
    words: Sequence[str],
    word_probabilities: NDArray[np.float32],
) -> NDArray[np.uint32]:
    """CRC-32 of each row's vector, key, word and probability, to detect bit rot.

    Args:
        vectors: float16 [n, dim].
        keys: [n].
        words: [n].
        word_probabilities: float32 [n].

    Returns:
        uint32 [n].
    """
    rows = np.ascontiguousarray(vectors)
    sums = np.empty(len(rows), dtype=np.uint32)
    texts = zip(keys, words, word_probabilities.astype("<f4"), strict=True)
    for number, (key, word, probability) in enumerate(texts):
        crc = zlib.crc32(rows[number].tobytes())
        sums[number] = zlib.crc32(f"{key}\0{word}\0".encode() + probability.tobytes(), crc)
    return sums


def vector_checksums(vectors: NDArray[np.float16]) -> NDArray[np.uint32]:
    """CRC-32 of each vector alone, as in the first galleries: uint32 [n]."""
    rows = np.ascontiguousarray(vectors)
    return np.array([zlib.crc32(row.tobytes()) for row in rows], dtype=np.uint32)
