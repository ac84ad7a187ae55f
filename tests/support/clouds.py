"""Tables of pictures whose vectors lie where a test puts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexes.search.open_table import OpenTable
from indexes.store.records import VectorColumn, VectorTable
from indexes.vectors import Vectors, unit


def table(
    vectors: NDArray[np.floating],
    words: Sequence[str] | None = None,
    sure: Sequence[float] | None = None,
    name: str = "color",
) -> OpenTable:
    """An open table of these vectors, made unit, whose keys are in their order."""
    count = len(vectors)
    column = VectorColumn(
        [f"{row:064x}" for row in range(count)],
        unit(vectors),
        list(words or [""] * count),
        np.array(sure if sure is not None else [1.0] * count, dtype=np.float32),
    )
    return OpenTable(VectorTable(name, vectors.shape[1], {"phrase": name}), column, "exact")


def cloud(
    random: np.random.Generator, centre: int, count: int, spread: float = 0.05, dim: int = 32
) -> Vectors:
    """Unit vectors around one axis; those of two axes are far apart."""
    around = np.zeros(dim)
    around[centre] = 1
    return unit(around + spread * random.normal(size=(count, dim)))
