"""Which conditions tell the pictures of a gallery apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from indexes.vectors import Vectors

#: Pictures that are compared, at most.
_COMPARED = 400

#: Neighbours whose likeness is compared with that of all pictures.
_NEAREST = 5

#: Conditions whose likenesses correlate more than this order the pictures in the same way.
_SAME = 0.7

#: Least share of a vector's squared length that differs from the mean vector.
_LEAST_SPREAD = 0.02


def varying_conditions(vectors: Mapping[str, Vectors], count: int) -> list[str]:
    """Choose conditions by which the pictures differ, each in another way.

    A condition is better the more the nearest pictures stand out from the rest, in standard
    deviations of all likenesses. Those under which all pictures are nearly equal are left out, and
    those that order the pictures as one that was chosen before.

    Args:
        vectors: condition to float32 [pictures, dim], unit rows, of the same pictures.
        count: most conditions to choose.

    Returns:
        The chosen conditions, the best first.
    """
    alike: dict[str, NDArray[np.float32]] = {}
    worth: dict[str, float] = {}
    for name, every in vectors.items():
        some = every[np.linspace(0, len(every) - 1, min(len(every), _COMPARED)).astype(np.int64)]
        if len(some) <= _NEAREST or 1 - float((some.mean(0) ** 2).sum()) < _LEAST_SPREAD:
            continue
        cosines = some @ some.T
        pairs = cosines[np.triu_indices(len(some), 1)]
        deviation = float(pairs.std())
        np.fill_diagonal(cosines, -np.inf)
        nearest = np.partition(cosines, -_NEAREST, axis=1)[:, -_NEAREST:]
        worth[name] = float(nearest.mean() - pairs.mean()) / max(deviation, 1e-6)
        alike[name] = (pairs - pairs.mean()) / max(deviation, 1e-6)
    chosen: list[str] = []
    for name in sorted(worth, key=lambda one: -worth[one]):
        if all(float((alike[name] * alike[other]).mean()) < _SAME for other in chosen):
            chosen.append(name)
    return chosen[:count]


def typical_query(vectors: Mapping[str, Vectors]) -> int:
    """The row of the picture whose nearest pictures stand out most, over all conditions.

    Args:
        vectors: condition to float32 [pictures, dim], unit rows, of the same pictures.
    """
    total: NDArray[np.float64] = np.zeros(len(next(iter(vectors.values()))))
    for every in vectors.values():
        some = every[np.linspace(0, len(every) - 1, min(len(every), _COMPARED)).astype(np.int64)]
        cosines = every @ some.T
        nearest = np.partition(cosines, -min(_NEAREST + 1, cosines.shape[1]), axis=1)
        # The picture itself may be among the compared ones; it is alike under every condition.
        found = nearest[:, -min(_NEAREST + 1, cosines.shape[1]) :].mean(1)
        total += (found - cosines.mean(1)) / max(float(cosines.std()), 1e-6)
    return int(total.argmax())
