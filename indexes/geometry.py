"""How stored vectors are compared: as they are, centred, standardised, or less a part.

Hidden states of one prompt share a large offset and a few huge dimensions, so that all pairs look
alike. Subtracting the gallery's mean, dividing by its standard deviation, and taking away what a
vector shares with one asked for otherwise are choices of similarity: which one ranks better is
measured (docs/geometry.md), declared by the gallery, and applied to queries and stored vectors
alike. The stored originals never change.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Iterable

import numpy as np
from numpy.typing import NDArray

from indexes.vectors import Vectors, unit

#: The choices, and what each does.
GEOMETRIES = {
    "raw": "the model's own vectors",
    "centred": "less the mean of the gallery under the condition",
    "standardised": "centred, and divided by the standard deviation of each dimension",
    "residual": "less its part along the picture's own unconditional vector",
}

#: The one that needs a second vector of each picture.
RESIDUAL = "residual"

#: Fewer pictures than this say too little of a mean; they are compared as they are.
MIN_COUNT = 20

#: A dimension that never moves is not blown up.
_LEAST_STD = 1e-4


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of a condition's unit vectors.

    Attributes:
        mean: float32 [dim].
        std: float32 [dim].
        count: vectors they were taken of.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    count: int

    @classmethod
    def of(cls, vectors: Vectors) -> Statistics:
        """Take them of vectors, float32 [n, dim]."""
        if not len(vectors):
            nothing = np.zeros(vectors.shape[1], dtype=np.float32)
            return cls(nothing, nothing, 0)
        mean = vectors.mean(axis=0, dtype=np.float64)
        std = vectors.std(axis=0, dtype=np.float64)
        return cls(mean.astype(np.float32), std.astype(np.float32), len(vectors))

    @classmethod
    def of_parts(cls, parts: Iterable[Vectors], dimension: int) -> Statistics:
        """Take them of more vectors than fit in memory.

        Args:
            parts: float32 [n, dim] each.
            dimension: ``dim``.
        """
        count = 0
        total = np.zeros(dimension)
        squares = np.zeros(dimension)
        for part in parts:
            wide = part.astype(np.float64)
            count += len(wide)
            total += wide.sum(axis=0)
            squares += np.square(wide).sum(axis=0)
        if not count:
            return cls.of(np.empty((0, dimension), dtype=np.float32))
        mean = total / count
        # Unit vectors hold numbers of at most 1, so that in float64 nothing is lost that counts.
        std = np.sqrt(np.maximum(squares / count - mean**2, 0))
        return cls(mean.astype(np.float32), std.astype(np.float32), count)

    def basis(self, geometry: str) -> str:
        """Names all that :meth:`apply` depends on, so that what it made can be known again."""
        if geometry in ("raw", RESIDUAL) or self.count < MIN_COUNT:
            return ""
        content = self.mean.tobytes() + self.std.tobytes()
        return hashlib.sha256(content).hexdigest()

    def apply(self, vectors: Vectors, geometry: str) -> Vectors:
        """Move unit vectors into a geometry; a vector equal to the mean is left as it is.

        Args:
            vectors: float32 [n, dim], unit rows.
            geometry: one of :data:`GEOMETRIES`; ``residual`` is not had from statistics, and
                leaves them to :func:`residual`.

        Returns:
            float32 [n, dim], unit rows.
        """
        if geometry in ("raw", RESIDUAL) or self.count < MIN_COUNT:
            return vectors
        moved = vectors - self.mean
        if geometry == "standardised":
            moved = moved / np.maximum(self.std, _LEAST_STD)
        return _unit_or_left(moved, vectors)


def residual(vectors: Vectors, beside: Vectors) -> Vectors:
    """Take away from each vector its part along another: ``v - (v . u) u``, at unit length.

    What is left says nothing that ``u`` says already. A vector parallel to ``u`` is left as it is.

    Args:
        vectors: v, float32 [n, dim], unit rows.
        beside: u, float32 [n, dim], unit rows, such as of the same pictures without a condition.

    Returns:
        float32 [n, dim], unit rows.
    """
    shared = np.sum(vectors * beside, axis=1, keepdims=True)
    return _unit_or_left(vectors - shared * beside, vectors)


def _unit_or_left(moved: Vectors, vectors: Vectors) -> Vectors:
    """Moved vectors at unit length; where nothing is left of one, as it was."""
    still = np.linalg.norm(moved, axis=1) < 1e-6
    moved[still] = vectors[still]
    return unit(moved)
