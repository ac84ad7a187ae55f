"""CRL: a picture under a condition is its likeness to each of the condition's words.

Conditional Representation Learning, NeurIPS 2025 (arXiv 2510.04564): R = N(v T^T), the profile of
a picture's vector v over the vectors T of the words. No training.
"""

from __future__ import annotations

from indexes.vectors import Vectors


def offset(texts: Vectors, image_mean: Vectors) -> Vectors:
    """What is added to the profile of a text to compare it with pictures': float32 [texts].

    Texts lie apart from pictures, nearer to the words, so that their profiles are flatter. They
    are moved by the difference of the two means. The method as published knows pictures only.

    Args:
        texts: float32 [texts, dim], the words' vectors.
        image_mean: float32 [dim], the mean of pictures' vectors.
    """
    moved: Vectors = texts @ (image_mean - texts.mean(0))
    return moved
