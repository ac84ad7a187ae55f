"""CRL: a picture under a condition is its likeness to each of the condition's words.

Conditional Representation Learning, NeurIPS 2025 (arXiv 2510.04564): R = N(v T^T), the profile of
a picture's vector v over the vectors T of the words. No training.

The method as published knows pictures only. Texts lie apart from pictures and nearer to the words,
so that their profiles are flatter; to be compared with pictures', a text's vector is moved by the
difference of the two means first (:func:`ingest.encoders.projections.base.fit_view`).
"""

from __future__ import annotations

import numpy as np

from indexes.search.vectors import Vectors


def fit(texts: Vectors) -> Vectors:
    """A condition's map: float32 [min(texts, dim), dim].

    The words' vectors themselves. Where there are more of them than dimensions, the profile turned
    into fewer: with T = Q R and columns of Q at right angles, v T^T and v R^T have the same
    products and lengths.

    Args:
        texts: float32 [texts, dim], unit rows, one a value of the condition.
    """
    if texts.shape[0] <= texts.shape[1]:
        return texts
    _, turned = np.linalg.qr(texts.astype(np.float64))
    result: Vectors = turned.astype(np.float32)
    return result
