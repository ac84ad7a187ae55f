"""How vectors are compared: unchanged, centred, standardised, or without a shared component.

Hidden states of one prompt share a large offset and a few dominant dimensions, so that all pairs
are similar. Subtracting the gallery's mean, dividing by its standard deviation, and removing the
component along the picture's unconditional vector are choices of a similarity. Which one ranks
better is measured (docs/geometry.md). The gallery declares one, which is applied to queries and
to stored vectors. The stored vectors themselves never change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexes.vectors import Vectors, unit

#: The geometries, with a description of each.
GEOMETRIES = {
    "raw": "the model's own vectors",
    "centred": "less the mean of the gallery under the condition",
    "standardised": "centred, and divided by the standard deviation of each dimension",
    "residual": "less its part along the picture's own unconditional vector",
}

#: The geometry that needs a second vector of each picture.
RESIDUAL = "residual"

#: Pictures that a mean is computed from, at least; fewer are compared unchanged.
MIN_COUNT = 20

#: Smallest standard deviation to divide by, so that a constant dimension does not dominate.
_LEAST_STD = 1e-4


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of a condition's unit vectors.

    Attributes:
        mean: float32 [dim].
        std: float32 [dim].
        count: number of vectors.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    count: int

    @classmethod
    def of(cls, vectors: Vectors) -> Statistics:
        """The statistics of vectors, float32 [n, dim]."""
        if not len(vectors):
            zero = np.zeros(vectors.shape[1], dtype=np.float32)
            return cls(zero, zero, 0)
        mean = vectors.mean(axis=0, dtype=np.float64)
        std = vectors.std(axis=0, dtype=np.float64)
        return cls(mean.astype(np.float32), std.astype(np.float32), len(vectors))

    @classmethod
    def of_parts(cls, parts: Iterable[Vectors], dimension: int) -> Statistics:
        """The statistics of more vectors than fit in memory.

        Args:
            parts: blocks of vectors, float32 [n, dim] each.
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
        # The numbers of unit vectors are at most 1, so that float64 is precise enough.
        std = np.sqrt(np.maximum(squares / count - mean**2, 0))
        return cls(mean.astype(np.float32), std.astype(np.float32), count)

    def basis(self, geometry: str) -> str:
        """Identifies everything that the result of :meth:`apply` depends on."""
        if geometry in ("raw", RESIDUAL) or self.count < MIN_COUNT:
            return ""
        content = self.mean.tobytes() + self.std.tobytes()
        return hashlib.sha256(content).hexdigest()

    def apply(self, vectors: Vectors, geometry: str) -> Vectors:
        """Transform unit vectors into a geometry; a vector equal to the mean is unchanged.

        Args:
            vectors: float32 [n, dim], unit rows.
            geometry: one of :data:`GEOMETRIES`; ``residual`` changes nothing here, see
                :func:`residual`.

        Returns:
            float32 [n, dim], unit rows.
        """
        if geometry in ("raw", RESIDUAL) or self.count < MIN_COUNT:
            return vectors
        moved = vectors - self.mean
        if geometry == "standardised":
            moved = moved / np.maximum(self.std, _LEAST_STD)
        return _unit_or_unchanged(moved, vectors)


def residual(vectors: Vectors, unconditional: Vectors) -> Vectors:
    """Remove from each vector its component along another: ``v - (v . u) u``, at unit length.

    The result is orthogonal to ``u``. A vector parallel to ``u`` is unchanged.

    Args:
        vectors: v, float32 [n, dim], unit rows.
        unconditional: u, float32 [n, dim], unit rows: the same pictures without a condition.

    Returns:
        float32 [n, dim], unit rows.
    """
    shared = np.sum(vectors * unconditional, axis=1, keepdims=True)
    return _unit_or_unchanged(vectors - shared * unconditional, vectors)


def _unit_or_unchanged(moved: Vectors, vectors: Vectors) -> Vectors:
    """Transformed vectors at unit length; the original where a transformed vector is zero."""
    zero = np.linalg.norm(moved, axis=1) < 1e-6
    moved[zero] = vectors[zero]
    return unit(moved)
